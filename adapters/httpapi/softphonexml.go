package httpapi

import (
	"context"

	"ledgerline/commands"
	"ledgerline/domain"
)

// SoftphoneXML reads and writes the vendor's XML of what apps of Cloud Softphone are told: adapters/softphone/wire.
type SoftphoneXML struct {
	Read           func(data []byte) domain.SoftphoneImport
	Account, Level func(d domain.SoftphoneDocument) []byte
	// Global is what an app is told: Level, but for what it has to remove and the replace priority.
	Global func(d domain.SoftphoneDocument, remove []domain.SoftphoneEntry, replace bool) []byte
}

// softphoneXML is one level, or what apps of a softphone are told, as XML; secrets are redacted.
type softphoneXML struct {
	Account string `json:"account" doc:"Account XML"`
	Global  string `json:"global" doc:"Global External Provisioning"`
}

func (a *api) xmlOf(d domain.SoftphoneDocument) softphoneXML {
	return softphoneXML{string(a.SoftphoneXML.Account(d)), string(a.SoftphoneXML.Level(d))}
}

// preview is what a new app of a softphone is told now; one that has more is told to remove that as well.
type preview struct {
	Document domain.SoftphoneDocument   `json:"document"`
	From     map[string]domain.StreamID `json:"from" doc:"the level that each thing comes from, by its path"`
	Findings []domain.SoftphoneFinding  `json:"findings"`
	XML      softphoneXML               `json:"xml"`
}

// dialledNumber is what becomes of a number.
type dialledNumber struct {
	domain.Dialled
	Emergency bool   `json:"emergency" doc:"it is an emergency number of the tenant's country"`
	Assumed   string `json:"assumed" doc:"what the vendor does not document of this"`
}

const dialAssumed = "the account's rewriting comes before the dial action, and later rules see the number as earlier ones made it"

// softphoneXMLs registers what shows and changes levels as a whole: previews, dialling, XML, the level of a category.
func (a *api) softphoneXMLs() {
	read(a, op{"GET", "/softphones/{id}/preview", "preview-softphone", "What the apps of a Cloud Softphone are told now, and from which level it comes", readers, 0},
		func(ctx context.Context, in *ByID) (*struct{ Body preview }, error) {
			id := domain.SoftphoneID(in.ID)
			v, err := a.previewed(ctx, id, domain.Dialling{})
			told := softphoneXML{string(a.SoftphoneXML.Account(v.Document)), string(a.SoftphoneXML.Global(v.Document, nil, len(v.Document.QuickDials) > 0))}
			return &struct{ Body preview }{preview{v.Document, v.From, append([]domain.SoftphoneFinding{}, v.Findings...), told}}, err
		})
	read(a, op{"GET", "/softphones/{id}/dial", "dial-softphone", "What becomes of a number that the user dials, and by which rule of which level", readers, 0}, func(ctx context.Context, in *struct {
		ByID
		Number  string `query:"number" required:"true" minLength:"1" maxLength:"128"`
		Action  string `query:"action" maxLength:"64" doc:"the dial action chosen; autoCall when absent"`
		Network string `query:"network" maxLength:"64" doc:"type of the phone's network, for rules that ask"`
		SSID    string `query:"ssid" maxLength:"64" doc:"name of the phone's wireless network, for rules that ask"`
	}) (*struct{ Body dialledNumber }, error) {
		v, err := a.previewed(ctx, domain.SoftphoneID(in.ID), domain.Dialling{Number: in.Number, DialAction: in.Action, Network: in.Network, SSID: in.SSID})
		return &struct{ Body dialledNumber }{dialledNumber{v.Dialled, v.Emergency, dialAssumed}}, err
	})
	type level struct {
		ID       string                   `json:"id"`
		Document domain.SoftphoneDocument `json:"document"`
	}
	read(a, op{"GET", "/categories/{id}/softphone", "get-category-softphone", "Show what apps of the category's Cloud Softphones are told", readers, 0},
		func(ctx context.Context, in *ByID) (*one[level], error) {
			d, out, err := a.level(ctx, domain.CategoryID(in.ID).Stream())
			return &one[level]{etag(out), level{in.ID, d}}, err
		})
	alters(a, op{"PUT", "/categories/{id}/softphone", "set-category-softphone", "Say what apps of the category's Cloud Softphones are told, whole, over what their cloud ID says", operators, 0},
		func(ctx context.Context, s *commands.Service, id domain.CategoryID, b struct {
			Document domain.SoftphoneDocument `json:"document,omitempty"`
		}) (commands.Outcome, checked, error) {
			found, out, err := s.SetCategorySoftphone(ctx, commands.SetCategorySoftphone{ID: id, Document: b.Document})
			return out, warnings(string(id), found), err
		})
	levelXML(a, "/cloudids", "cloud-id", "a cloud ID", func(id domain.CloudID) commands.ImportSoftphone { return commands.ImportSoftphone{CloudID: id} })
	levelXML(a, "/categories", "category-softphone", "a category", func(id domain.CategoryID) commands.ImportSoftphone { return commands.ImportSoftphone{Category: id} })
	levelXML(a, "/softphones", "softphone", "a Cloud Softphone", func(id domain.SoftphoneID) commands.ImportSoftphone { return commands.ImportSoftphone{Softphone: id} })
}

// levelXML registers the export and the import of one kind of level.
func levelXML[ID identity](a *api, path, name, what string, of func(id ID) commands.ImportSoftphone) {
	read(a, op{"GET", path + "/{id}/xml", "export-" + name, "What " + what + " itself says, as the vendor's XML", readers, 0},
		func(ctx context.Context, in *ByID) (*one[softphoneXML], error) {
			d, at, err := a.level(ctx, ID(in.ID).Stream())
			return &one[softphoneXML]{etag(at), a.xmlOf(d)}, err
		})
	alters(a, op{"PUT", path + "/{id}/xml", "import-" + name, "Replace what " + what + " says by XML a provider has: an account, or quick dials and dial actions", operators, 0},
		func(ctx context.Context, s *commands.Service, id ID, b struct {
			XML string `json:"xml" maxLength:"524288"`
		}) (commands.Outcome, checked, error) {
			command := of(id)
			command.XML = a.SoftphoneXML.Read([]byte(b.XML))
			found, out, err := s.ImportSoftphone(ctx, command)
			return out, warnings(string(id), found), err
		})
}

// previewed is a preview of a softphone the caller reaches.
func (a *api) previewed(ctx context.Context, id domain.SoftphoneID, in domain.Dialling) (v commands.SoftphonePreview, err error) {
	if err := a.sight(ctx, id.Stream()); err != nil {
		return v, err
	}
	return a.Service.PreviewSoftphone(ctx, id, in)
}

// level is what a level the caller reaches says, redacted, and the revision it says it at.
func (a *api) level(ctx context.Context, stream domain.StreamID) (domain.SoftphoneDocument, domain.Revision, error) {
	if err := a.sight(ctx, stream); err != nil {
		return domain.SoftphoneDocument{}, 0, err
	}
	return a.Service.SoftphoneLevel(ctx, stream)
}

// sight is nil when the caller reaches what a stream is of.
func (a *api) sight(ctx context.Context, stream domain.StreamID) error {
	if domain.CheckID(stream.ID()) != nil {
		return errNotFound
	}
	return a.reaches(ctx, a.Service, stream)
}
