package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io/fs"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"ledgerline/adapters/phonehttp"
	"ledgerline/adapters/plugins"
	"ledgerline/commands"
	"ledgerline/domain"
	"ledgerline/tests/phonesim"
	"ledgerline/tests/rig"
)

// newer is the built-in yealink package as a version to come, which writes one line more.
func newer(t *testing.T) fs.FS {
	t.Helper()
	out := fstest.MapFS{}
	names, err := fs.Glob(plugins.Builtin(), "yealink/*.*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := fs.ReadFile(plugins.Builtin(), name)
		if err != nil {
			t.Fatal(err)
		}
		switch name = name[len("yealink/"):]; name {
		case "plugin.yaml":
			b = bytes.Replace(b, []byte("version: 1."), []byte("version: 9."), 1)
		case "device.tmpl":
			b = append(b, "\nmade.by.the.newer = 1\n"...)
		}
		out[name] = &fstest.MapFile{Data: b}
	}
	return out
}

// A package is installed beside the one in use, becomes what new phones get, phones are moved to it, and the old one is
// taken away, while a thousand phones keep fetching: not one fetch fails.
func TestPackagesComeAndGoWhileAThousandPhonesFetch(t *testing.T) {
	const phones, moved = 1000, 200
	ctx, stop := context.WithCancel(zerolog.Nop().WithContext(commands.WithCaller(t.Context(), commands.Caller{Actor: "system:test"})))
	defer stop()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	r, err := rig.Open(ctx, t.TempDir())
	ok(err)
	t.Cleanup(func() { ok(r.Close()) })
	signing, verifier, err := plugins.KeyGen(rand.Reader, "test.example")
	ok(err)
	keys, err := plugins.ParseKeys(verifier)
	ok(err)
	depot, err := plugins.NewDepot(plugins.Options{Dir: t.TempDir(), Set: r.Plugins, Keys: keys, Archive: r.Service.PluginArchive, History: r.Service.Plugin})
	ok(err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ok(err)
	r.Service.Packages, r.Service.PublicURL = depot, "http://"+ln.Addr().String()+"/"
	ok(r.Start(ctx))
	builtin, err := plugins.Archives(plugins.Builtin(), "builtin")
	ok(err)
	old := ""
	for _, p := range builtin {
		if p.Plugin == "yealink" {
			old = p.Archive.Version
			depot.Adopted(p)
			_, err := r.Service.AdoptPlugin(ctx, p)
			ok(err)
		}
	}
	_, _, err = r.Service.CreateTenant(ctx, commands.CreateTenant{ID: "acme", Name: "Acme"})
	ok(err)
	_, _, err = r.Service.DefineLayer(ctx, commands.DefineLayer{ID: domain.TenantLayer("acme"), TenantID: "acme", Settings: domain.Settings{"resync_per_minute": 6000}})
	ok(err)
	var g errgroup.Group
	g.SetLimit(32)
	fleet := make([]*phonesim.Phone, phones)
	var ids []domain.DeviceID
	for i := range fleet {
		mac := domain.MAC(fmt.Sprintf("001565%06x", i+1))
		if i < moved {
			ids = append(ids, domain.DeviceID(mac))
		}
		g.Go(func() (err error) {
			if _, _, err = r.Service.DiscoverDevice(ctx, commands.DiscoverDevice{MAC: mac, Vendor: "Yealink", Model: "T54W", Firmware: "96.86.0.70", Added: "operator", TenantID: "acme"}); err != nil {
				return err
			}
			fleet[i], err = phonesim.New(phonesim.Config{Vendor: "yealink", Model: "T54W", MAC: mac, Server: r.Service.PublicURL})
			return err
		})
	}
	ok(g.Wait())
	_, err = r.Settle(ctx)
	ok(err)
	server, err := phonehttp.New(phonehttp.Options{Files: r.Service})
	ok(err)
	served := make(chan error, 1)
	serving, end := context.WithCancel(ctx)
	go func() { served <- server.Serve(serving, ln) }()

	// Every phone boots, and then polls for as long as the packages change.
	var fetches, failures atomic.Int64
	var first sync.Once
	fetch := func(p *phonesim.Phone, how func(context.Context) (phonesim.Result, error)) {
		res, err := how(ctx)
		fetches.Add(int64(len(res.Files)))
		if err != nil {
			failures.Add(1)
			first.Do(func() { t.Errorf("a fetch failed: %v", err) })
		}
	}
	var done atomic.Bool
	booted := make(chan struct{})
	var polling, booting sync.WaitGroup
	booting.Add(phones)
	for w := range 16 {
		polling.Go(func() {
			for i := w; i < phones; i += 16 {
				fetch(fleet[i], fleet[i].Boot)
				booting.Done()
			}
			for rounds := 0; rounds == 0 || !done.Load(); rounds++ {
				for i := w; i < phones; i += 16 {
					fetch(fleet[i], fleet[i].Poll)
				}
			}
		})
	}
	go func() { booting.Wait(); close(booted) }()
	func() {
		defer done.Store(true)
		archive, err := plugins.Pack(newer(t), ".")
		ok(err)
		archive, err = plugins.Sign(archive, signing)
		ok(err)
		ref, _, err := r.Service.InstallPlugin(ctx, commands.InstallPlugin{Archive: archive}, nil)
		ok(err)
		<-booted
		_, _, err = r.Service.InstallPlugin(ctx, commands.InstallPlugin{Name: "yealink", Version: ref.Version, Upgrade: true}, nil)
		ok(err)
		id, _, err := r.Service.UpgradeDevices(ctx, commands.UpgradeDevices{Plugin: "yealink", Version: ref.Version, Devices: ids})
		ok(err)
		ok(r.Service.CarryDeviceUpgrade(ctx, "yealink", id, nil))
		_, err = r.Service.UninstallPlugin(ctx, commands.UninstallPlugin{Name: "yealink", Version: old, Force: true})
		ok(err)
	}()
	polling.Wait()
	end()
	ok(<-served)
	if failures.Load() > 0 {
		t.Errorf("%d fetches of %d failed", failures.Load(), fetches.Load())
	}
	t.Logf("%d fetches by %d phones, %d failed", fetches.Load(), phones, failures.Load())
	for i, p := range []string{"001565000001", fmt.Sprintf("001565%06x", moved), fmt.Sprintf("001565%06x", moved+1)} {
		d, _, err := r.Service.CurrentDevice(ctx, domain.DeviceID(p))
		ok(err)
		if newer := d.Config.PluginVersion != old; newer != (i < 2) {
			t.Errorf("%s is at %s", p, d.Config.PluginVersion)
		}
	}
	for _, p := range fleet {
		p.Close()
	}
}
