// Package phonetftp is what phones fetch over TFTP (RFC 1350, 2347, 2348, 2349): read-only, virtual names
// only, the same command behind it as behind HTTP.
//
// Names are paths as phonehttp has them: <file>, t/<tenant-key>/<file>, d/<device-secret>/<file>,
// c/<code>/<file>; leading slashes are dropped. There is no folder behind a name, so there is nothing to
// climb out of; names with "..", a backslash, anything but printable ASCII, or more than 128 bytes are
// refused all the same, unasked.
//
// Why a front of our own before the library? github.com/pin/tftp/v3 moves the blocks; but it starts a
// goroutine and a socket for every datagram, answers everything with "file not found", and does not show a
// request's mode. So the front reads, checks and limits requests first, lets the command decide, and hands
// the library one clean request over a link of its own: a socket per transfer (its TID), connected to the
// phone, at the address the phone asked.
//
// What always holds:
//   - Whatever is not this phone's to have is one "file not found". Our own trouble, and a file that is not
//     ready within Options.Patience, is error 0: a phone must not take a busy store for a missing file.
//   - Delivered is called when the last block has been acknowledged (D26).
//   - A request repeated by a waiting phone does not start a second transfer.
//   - A forged source gets little: requests beyond a source's rate, and those of the whole server, are dropped
//     without an answer (a phone repeats, which is all the back-off TFTP has); a block is sent four times at most.
//   - Options we do not know are ignored, as RFC 2347 wants. blksize is honoured from 512 up to
//     Options.BlockSize, tsize always with octet. netascii is converted (LF to CR LF) as RFC 1350 wants;
//     "mail" and other modes are refused.
//
// Trust. Everybody on the way can read a TFTP transfer: files with secrets go to trusted networks only (D24),
// and the command sees to that.
//
// Not here: HTTP (phonehttp), which file is whose (commands), writing (refused with error 2).
package phonetftp
