package script

import "strconv"

// Answers are the command files of a registry. The zero value is ready.
type Answers struct {
	// FastPoll is how many minutes lie between two questions of a phone that shows its form; 0 leaves it to the phone.
	FastPoll int
}

// Identity is the query that makes a phone say who it is, with its own placeholders (reference §3.2).
const Identity = "sn=#m&type=#t&hwid=#h&ip=#i"

// Rewrite tells a phone to ask url from now on, and to take no other from DHCP. Placeholders in url survive: the phone
// decodes its argument once, and finds "#m".
func Rewrite(url string) []byte {
	var s Script
	s.Config("add", "UP1", "/url", url)
	s.Config("add", "UP1", "/no-dhcp")
	s.Keep()
	return must(s)
}

// Rewrite is Rewrite.
func (Answers) Rewrite(url string) []byte { return Rewrite(url + "?" + Identity) }

// Arguments is Arguments.
func (Answers) Arguments(rawQuery string) map[string]string { return Arguments(rawQuery) }

// Prompt makes the phone show its code form; refused tells that it has shown a code which leads nowhere.
func (a Answers) Prompt(refused bool) []byte {
	var s Script
	if refused {
		s.Comment("unknown or expired")
	}
	s.Add("vars", "create", "UPDATE/PROVISIONING-CODE", "h", "prompt")
	if a.FastPoll > 0 {
		s.Add("mod", "cmd", "UP1", "provision", strconv.Itoa(a.FastPoll))
	}
	return must(s)
}

// Lead tells the phone its Devices URL, and takes the flags of online provisioning off it.
func (Answers) Lead(devicesURL string) []byte {
	var s Script
	s.Add("config", "change", "SYSCLIENT", "/sysadmin", Escape(devicesURL))
	s.Config("rem", "UP1", "/provisioning")
	s.Config("rem", "UP1", "/provision")
	s.Keep()
	return must(s)
}

// must is the bytes of a script whose words are all our own, or encoded.
func must(s Script) []byte {
	b, err := s.Bytes()
	if err != nil {
		panic(err)
	}
	return b
}
