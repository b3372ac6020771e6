package ledger

import (
	"fmt"
	"syscall"
)

// remote names the network file systems by the numbers of statfs(2).
var remote = map[uint32]string{
	0x6969: "NFS", 0xff534d42: "CIFS", 0xfe534d42: "SMB2", 0x517b: "SMB", 0x01021997: "9P",
	0x00c36400: "Ceph", 0x5346414f: "AFS", 0x73757245: "Coda", 0x0bd00bd0: "Lustre", 0x564c: "NCP",
}

// localOnly refuses a directory on a network file system.
func localOnly(dir string) error {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return fmt.Errorf("file system of %s: %w", dir, err)
	}
	return localType(uint32(s.Type))
}

func localType(kind uint32) error {
	if name, yes := remote[kind]; yes {
		return fmt.Errorf("%w (this is %s)", ErrRemote, name)
	}
	return nil
}
