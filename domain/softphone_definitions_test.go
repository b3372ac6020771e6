package domain_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ledgerline/domain"
)

const portalBase = "https://prov.example.net/"

// portalText is the definitions as they are printed, with one field changed; an empty value takes it away.
func portalText(field, value string) string {
	var b strings.Builder
	for _, d := range domain.PortalDefinitions(portalBase, "ACME") {
		if d.Name == field {
			d.Value = value
		}
		if d.Value != "" {
			fmt.Fprintf(&b, "%-40s %s\n", d.Name, d.Value)
		}
	}
	if field != "" && !strings.Contains(b.String(), field+" ") && value != "" {
		fmt.Fprintf(&b, "%s = %s\n", field, value)
	}
	return b.String()
}

// What is printed can be pasted, is read back as it was, and is found right; it is what the reference shows.
func TestPortalDefinitions(t *testing.T) {
	want := domain.PortalDefinitions(portalBase, "ACME")
	if diff := cmp.Diff(want, domain.ParseDefinitions(portalText("", ""))); diff != "" {
		t.Error(diff)
	}
	if found := domain.CheckDefinitions(want, portalBase, "ACME"); len(found) > 0 {
		t.Errorf("%+v", found)
	}
	for _, line := range []string{"InitialProvisioningUrl = https://prov.example.net/softphone/v1/account", "globalExtProvUrl = https://prov.example.net/softphone/v1/global",
		"initialGlobalProvisioningPostData = cloud_id=%fullcode%&cloud_username=%username%&cloud_password=%password%&initial=1&install=%installid%",
		"globalExtProvPostData = cloud_id=ACME&cloud_username=%account[cloud_username]%&cloud_password=%account[cloud_password]%&install=%installid%", "globalExtProvRefresh = 3600"} {
		if !slices.ContainsFunc(want, func(d domain.PortalValue) bool { return d.Name+" = "+d.Value == line }) {
			t.Errorf("no %s", line)
		}
	}
	xml := "<InitialProvisioningPostData>a=1&amp;b=&quot;</InitialProvisioningPostData>\r\n\n# a note\nInitialProvisioningMethod:\tPOST\nglobalExtProvRefresh"
	if diff := cmp.Diff([]domain.PortalValue{{Name: "InitialProvisioningPostData", Value: `a=1&b="`}, {Name: "InitialProvisioningMethod", Value: "POST"}, {Name: "globalExtProvRefresh"}}, domain.ParseDefinitions(xml)); diff != "" {
		t.Error(diff)
	}
}

// Each mistake is found at its field, and nothing else is.
func TestCheckDefinitions(t *testing.T) {
	const account, global = "https://prov.example.net/softphone/v1/account", "https://prov.example.net/softphone/v1/global"
	for _, c := range []struct{ field, value, want string }{
		{"InitialProvisioningUrl", "", "E CS-WS-4 InitialProvisioningUrl"},
		{"initialGlobalProvisioningUrl", "", "W CS-WS-4 initialGlobalProvisioningUrl"},
		{"globalExtProvUrl", "", "W CS-WS-4 globalExtProvUrl"},
		{"initialProvisioningUrl", account, "E CS-WS-3 initialProvisioningUrl InitialProvisioningUrl"},
		{"GlobalExtProvRefresh", "3600", "E CS-WS-3 GlobalExtProvRefresh globalExtProvRefresh"},
		{"wsContactsUrl", "https://x.example/", ""}, // a server of the provider's own
		{"wsContactsUrl", "", ""},
		{"wsContactsUrl", "https://prov.example.net/softphone/v1/contact", "E CS-WS-4 wsContactsUrl"},
		{"genericBalanceCheckUrl", "https://prov.example.net/softphone/v1/balance/%account[cloud_password]%", ""},
		{"genericBalanceCheckPostData", "cloud_id=ACME&cloud_password=%password%&install=%installid%", "W CS-AC-6 genericBalanceCheckPostData|E CS-WS-5 genericBalanceCheckPostData cloud_password=%account[cloud_password]%"},
		{"pushTokenReporterPostData", domain.RefreshPostData("ACME") + "&pushTokenOther=%pushTokenOther%&token=%pushtoken%", "W CS-AC-6 pushTokenReporterPostData pushToken|W CS-WS-5 pushTokenReporterPostData"},
		{"somethingElse", "1", "W CS-WS-3 somethingElse"},
		{"InitialProvisioningUrl", "http://prov.example.net/softphone/v1/account", "E CS-AC-5 InitialProvisioningUrl"},
		{"InitialProvisioningUrl", "lua://x/softphone/v1/account", "E CS-AC-5 InitialProvisioningUrl|W CS-WS-4 InitialProvisioningUrl"},
		{"InitialProvisioningUrl", "prov.example.net/softphone/v1/account", "E CS-WS-4 InitialProvisioningUrl"},
		{"InitialProvisioningUrl", "https://other.example/softphone/v1/account", "W CS-WS-4 InitialProvisioningUrl"},
		{"InitialProvisioningUrl", global, "E CS-WS-4 InitialProvisioningUrl"},
		{"InitialProvisioningUrl", account + "/", "E CS-WS-4 InitialProvisioningUrl"},
		{"InitialProvisioningUrl", account + "?cloud_password=%password%", "W CS-WS-5 InitialProvisioningUrl"},
		{"globalExtProvUrl", global + "/%account[cloud_password]%", ""},
		{"InitialProvisioningMethod", "GET", "E CS-WS-1 InitialProvisioningPostData"},
		{"InitialProvisioningMethod", "post", ""},
		{"InitialProvisioningMethod", "", ""},
		{"globalExtProvMethod", "PATCH", "E CS-WS-1 globalExtProvMethod"},
		{"globalExtProvCustomHeaders", "no colon", "E CS-WS-2 globalExtProvCustomHeaders"},
		{"InitialProvisioningContentType", "", "W CS-WS-6 InitialProvisioningContentType"},
		{"InitialProvisioningContentType", "text/plain", "E CS-WS-6 InitialProvisioningContentType"},
		{"InitialProvisioningContentType", "application/json", "E CS-WS-6 InitialProvisioningPostData"},
		{"InitialProvisioningPostData", "cloud_id=%fullcode%&amp;cloud_username=%username%&amp;cloud_password=%password%&amp;install=%installid%", "E CS-WS-6 InitialProvisioningPostData"},
		{"InitialProvisioningPostData", "cloud_username=%username%&cloud_password=%password%&install=%installid%", "E CS-WS-5 InitialProvisioningPostData"},
		{"InitialProvisioningPostData", "cloud_id=OTHER&cloud_username=%username%&cloud_password=%password%&install=%installid%", "E CS-WS-5 InitialProvisioningPostData cloud_id=ACME"},
		{"InitialProvisioningPostData", "cloud_id=acme*&cloud_username=%username%&cloud_password=%password%&install=%installid%", ""},
		{"InitialProvisioningPostData", "cloud_id=%fullcode%&cloud_username=%username%&install=%installid%", "E CS-WS-5 InitialProvisioningPostData cloud_password=%password%"},
		{"InitialProvisioningPostData", "cloud_id=%fullcode%&cloud_username=%username%&cloud_password=%sha1(%password%)%&install=%installid%", "E CS-WS-5 InitialProvisioningPostData cloud_password=%password%"},
		{"InitialProvisioningPostData", "cloud_id=%fullcode%&cloud_username=%account[cloud_username]%&cloud_password=%password%&install=%installid%", "E CS-AC-6 InitialProvisioningPostData|E CS-WS-5 InitialProvisioningPostData cloud_username=%username%"},
		{"InitialProvisioningPostData", "cloud_id=%fullcode%&cloud_username=%Username%&cloud_password=%password%&install=%installid%", "W CS-AC-6 InitialProvisioningPostData username|E CS-WS-5 InitialProvisioningPostData cloud_username=%username%"},
		{"InitialProvisioningPostData", "cloud_id=%fullcode%&cloud_username=%username%&cloud_password=%password%", "W CS-WS-5 InitialProvisioningPostData install=%installid%"},
		{"InitialProvisioningPostData", domain.InitialPostData + "&realm=x", "W CS-WS-5 InitialProvisioningPostData"},
		{"InitialProvisioningPostData", domain.InitialPostData + "&cloud_id=x", "E CS-WS-5 InitialProvisioningPostData|E CS-WS-5 InitialProvisioningPostData cloud_id=ACME"},
		{"globalExtProvPostData", "cloud_id=%fullcode%&cloud_username=x&cloud_password=%account[cloud_password]%&install=%installid%", "W CS-AC-6 globalExtProvPostData|E CS-WS-5 globalExtProvPostData cloud_id=ACME"},
		{"globalExtProvPostData", "cloud_id=ACME&cloud_password=%account[password]%&install=%installid%", "E CS-WS-5 globalExtProvPostData cloud_password=%account[cloud_password]%"},
		{"globalExtProvRefresh", "hourly", "E CS-WS-6 globalExtProvRefresh"},
		{"globalExtProvRefresh", "30", "W CS-WS-6 globalExtProvRefresh"},
	} {
		var got []string
		for _, f := range domain.CheckDefinitions(domain.ParseDefinitions(portalText(c.field, c.value)), portalBase, "ACME") {
			severity := "W"
			if f.Error {
				severity = "E"
			}
			got = append(got, strings.TrimSpace(severity+" "+f.Code+" "+f.At+" "+f.Hint))
		}
		want := []string(nil)
		if c.want != "" {
			want = strings.Split(c.want, "|")
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s = %s: %s", c.field, c.value, diff)
		}
	}
	twice := domain.CheckDefinitions(domain.ParseDefinitions(portalText("", "")+"globalExtProvRefresh 3600\n"), portalBase, "ACME")
	if len(twice) != 1 || twice[0].Text != "is there twice" {
		t.Errorf("%+v", twice)
	}
	json := portalText("InitialProvisioningContentType", "application/json")
	json = strings.Replace(json, domain.InitialPostData, `{"cloud_id":"%fullcode%","cloud_username":"%username%","cloud_password":"%password%","install":"%installid%"}`, 1)
	if found := domain.CheckDefinitions(domain.ParseDefinitions(json), portalBase, "ACME"); len(found) > 0 {
		t.Errorf("%+v", found)
	}
}
