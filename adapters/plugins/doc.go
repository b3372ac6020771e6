// Package plugins turns settings into the files phones fetch, and requests into who is asking. What it
// knows of a vendor is data: a package is a directory, a new vendor needs no Go. builtin/ holds those that come
// with the program; Load takes others from any fs.FS.
//
// What must hold: rendering is pure, the same package, settings and device give the same bytes; no value can bring
// a setting of its own into a file; a wish that cannot be honoured is a warning, never a missing file; no
// template reaches clock, environment, files, network or chance, or works without end. Set is what is loaded, Depot gets
// packages and vendors' files, verifies them and loads what the log says is installed. Not here: who may install, who may
// fetch a file, what is recorded.
//
// # A package
//
//	plugin.yaml      identity, recognition rules, file table, sync, word tables: Manifest describes every field
//	models.csv       model,aliases,accounts,keys,exp_modules,exp_keys, then any columns of the package's own;
//	                 aliases are parted by "|", "#" begins a comment, the row "*" stands for unknown models; the column fw_line
//	                 is the firmware line assumed when a phone has not shown its version
//	firmware.yaml    where phones look for firmware, languages, dictionaries, and bundles of them to fetch by URL and
//	                 sha256: Firmware describes every field; optional
//	*.tmpl           text/template, all of a package one set ({{define}} in one file is seen in all)
//	testdata/*.txtar golden cases, below
//
// Names of models are compared without case, blank, dash and underscore, and without model_prefixes. Files
// of role boot and common are always made, device files for a configured phone, guest files for one that is not (no lines, no
// passwords, back soon). A path asked for is looked up under File.Path and Aliases; where many names mean one file
// (y000000000096.cfg), a recognition rule's "file" gives the name in the table.
//
// # Templates
//
// Every {{value}} is escaped for the file's format (wire.Escape) without being asked; there is no way around it. Lines
// of blanks are dropped and blanks at line ends cut, so {{if}} and {{end}} may have lines of their own. The dot:
//
//	.MAC (.MAC.Upper .MAC.Colons) .ID .Name (model) .Accounts .Fw .FwLine .BaseURL (ends in "/") .Guest .Vendor .Stamp (twelve digits, new when settings are)
//	.CodeEntry       in guest files the URL at which the phone's browser asks for a provisioning code, "" without one;
//	                 in its pages .Action is where the form goes, .Refused tells of a refusal (see CodeEntry)
//	.Language .Country .ToneCountry
//	.Zone            nil without time zone; .Name .Country .Offset .Saving (seconds) .DST .Signed ("+5:30") .POSIX
//	                 .StartDate .EndDate (.Month .Day .Hour .Minute; for phones that know dates only: a warning, and the setting dst_year)
//	                 .Start .End (asking warns where the rule has no exact weekly form): .Month .Week (5 last) .Weekday (0 Sunday) .ISOWeekday (7 Sunday) .SundayOne (1 Sunday) .Hour .Minute
//	.Lines           all accounts of the model: .N .Used (.Get k) (.Has k) (.On k) (.Items k) (.Pointer k); defaults and what
//	                 all lines share are filled in; k is a name below sip_lines.<n>: "password"
//	.Keys            all keys of the phone, unused ones too: .N .Module .Type .Value .Label .Line .Pickup .Used .Setting
//	.Expansion       the same for keys of expansion modules that are used
//
// Inside {{range .Lines}} or a {{define}} these work without the dot:
//
//	get "path"                text form of a setting, "" when not set; lists joined by ","
//	has "path"  on "path"  onOr "path" default  items "path"
//	col "name"                column of models.csv           fw 81         firmware line at least 81
//	table "name" key          word of plugin.yaml's tables, "" when there is none;  entries "name": the table itself
//	pick "setting" "table" k  the same, and a warning about setting when there is none
//	warn "setting" "text"     a warning; prints nothing
//	kept "setting" s          s, and a warning where the format has to replace a character of it
//	fit "setting" most s      s, or nothing and a warning when it has more than so many bytes
//	bit b onoff b yesno b     1/0, on/off, yes/no            choose b yes no    default otherwise s
//	add sub mul div mod seq int                              upper lower trim   replace old new s
//	keep "0123456789" s       drops all other characters     split sep s   join sep list   hasPrefix p s   cut p s
//	contains list s   position list s (-1 for none)          hostport host port   scheme url   noscheme url   urlpart "host" url (scheme host port path file)
//	directory kind vendor     URL of wazo's directory service, "" when the settings name none
//	and or not eq ne lt le gt ge len index slice print printf urlquery, of text/template
//
// A setting that was given and that no template asked for becomes a warning by itself; so ask for a setting only where
// it takes effect, and let templates of old firmware not ask. Lines and keys the model does not have are reported by the engine.
//
// # Tests
//
// A txtar in testdata has a comment (what, manual, firmware), render.yaml (model, firmware, mac, id, base_url, guest),
// settings.json, and what comes out: out/<path> (a line "; also …" lists aliases) and warnings. Each with/<wish>.json is settings laid over
// settings.json (null: none at all) and rendered as well; with/<wish> holds the lines that change, and the warnings ("!"). go test -run
// TestGolden -update writes them. The contract suite of this directory runs over every built-in package: each file
// is parsed back, with hostile text in every setting, for every model.
package plugins
