package phonesim

import (
	"crypto/sha256"
	"encoding/hex"
	"time"
)

var fixedTime = time.Date(2026, 3, 3, 12, 0, 0, 0, time.UTC)

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// Written by hand from the vendors' manuals, never by the plugins.

const yealinkOwn = `#!version:1.0.0.1
# one line, one empty account
account.1.enable = 1
account.1.label = Anna
account.1.display_name = Anna Müller
account.1.user_name = 101
account.1.auth_name = auth101
account.1.password = pa55 word
account.1.sip_server.1.address = sip.example.com
account.1.sip_server.1.port = 5061
account.1.sip_server.1.transport_type = 2
account.1.srtp_encryption = 1
account.1.srtp_encryption = 2
account.1.srtp_encryption =
account.1.outbound_proxy_enable = 1
account.1.outbound_proxy.1.address = proxy.example.com
account.1.outbound_proxy.1.port = 5071
voice_mail.number.1 = *97
account.2.enable = 0
account.2.user_name = %NULL%
linekey.1.type = 15
linekey.1.line = 1
linekey.2.type = 16
linekey.2.line = 1
linekey.2.value = 102
linekey.2.label = Ben = boss
linekey.2.extension = *8102
linekey.3.type = 0
expansion_module.1.key.4.type = 13
expansion_module.1.key.4.value = 103
local_time.time_zone_name = Germany(Berlin)
local_time.summer_time = 2
local_time.dst_time_type = 1
local_time.start_time = 3/5/7/2
local_time.end_time = 10/5/7/3
local_time.offset_time = 60
static.firmware.url = http://fw.example.com/T54W.rom
`
