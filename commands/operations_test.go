package commands_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ledgerline/commands"
)

// The text form is wazo-provd's, letter for letter (its reference §1.10).
func TestProgressAsText(t *testing.T) {
	p := commands.NewProgress("install_pkg")
	download, install := p.Part("download"), p.Part("install")
	file := download.Part("")
	file.Size(57)
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() {}, "install_pkg|progress(download|waiting(waiting;0/57))(install|waiting)"},
		{func() { file.Add(8) }, "install_pkg|progress(download|waiting(progress;8/57))(install|waiting)"},
		{func() { file.Add(49); file.Done(nil) }, "install_pkg|progress(download|waiting(success;57/57))(install|waiting)"},
		{func() { download.Done(nil) }, "install_pkg|progress(download|success(success;57/57))(install|waiting)"},
		{func() { install.Add(3) }, "install_pkg|progress(download|success(success;57/57))(install|progress;3)"},
		{func() { p.Done(errors.New("disk full")) }, "install_pkg|fail(download|success(success;57/57))(install|fail;3)"},
		{func() { p.Done(nil) }, "install_pkg|fail(download|success(success;57/57))(install|fail;3)"},
	} {
		step.do()
		if got := p.Step().String(); got != step.want {
			t.Errorf("%s\nwant %s", got, step.want)
		}
	}
}

// An operation is polled while it runs, keeps its outcome for an hour, and is then forgotten.
func TestOperationsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o commands.Operations
		gate := make(chan error)
		work := commands.Work{Label: "update", Key: "index", Do: func(ctx context.Context, p *commands.Progress) error {
			p.Add(5)
			return <-gate
		}}
		ctx, cancel := context.WithCancel(commands.WithCaller(t.Context(), commands.Caller{Actor: "apikey:a"}))
		id, err := o.Start(ctx, work)
		if err != nil {
			t.Fatal(err)
		}
		cancel() // the request that began it has ended
		synctest.Wait()
		if got, err := o.Get(id); err != nil || got.String() != "update|progress;5" || got.Actor != "apikey:a" || got.EndedAt != nil {
			t.Fatalf("%+v %v", got, err)
		}
		if _, err := o.Start(t.Context(), work); !errors.Is(err, commands.ErrOperationRunning) {
			t.Errorf("a second of its key: %v", err)
		}
		gate <- errors.New("no route")
		synctest.Wait()
		if got, _ := o.Get(id); got.State != commands.StepFail || got.Error != "no route" || got.EndedAt == nil {
			t.Errorf("%+v", got)
		}
		time.Sleep(time.Hour)
		if _, err := o.Get(id); !errors.Is(err, commands.ErrOperationUnknown) {
			t.Errorf("after an hour: %v", err)
		}
	})
}

func TestOperationsCancelForgetStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o commands.Operations
		var ended sync.Map
		start := func(name string) string {
			id, err := o.Start(t.Context(), commands.Work{Label: name, Do: func(ctx context.Context, _ *commands.Progress) error {
				<-ctx.Done()
				ended.Store(name, true)
				return ctx.Err()
			}})
			if err != nil {
				t.Fatal(err)
			}
			return id
		}
		canceled, forgotten, left := start("canceled"), start("forgotten"), start("left")
		if err := o.Cancel(canceled); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := o.Forget(forgotten); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		over := func(name string) bool { _, ok := ended.Load(name); return ok }
		if !over("canceled") || over("forgotten") {
			t.Errorf("canceled has ended: %v; forgotten has: %v", over("canceled"), over("forgotten"))
		}
		if all := o.List(); len(all) != 1 || all[0].ID != left {
			t.Errorf("left: %+v", all)
		}
		for _, id := range []string{canceled, forgotten, "nothing"} {
			if err := o.Cancel(id); !errors.Is(err, commands.ErrOperationUnknown) {
				t.Errorf("cancel %s: %v", id, err)
			}
		}
		if err := o.Stop(t.Context()); err != nil || !over("forgotten") || !over("left") {
			t.Errorf("stopped: %v; forgotten has ended: %v, left has: %v", err, over("forgotten"), over("left"))
		}
		if _, err := o.Start(t.Context(), commands.Work{}); err == nil {
			t.Error("started after Stop")
		}
	})
}

// However many there are, a thousand are kept: the newest.
func TestOperationsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o commands.Operations
		for i := range 1500 {
			if _, err := o.Start(t.Context(), commands.Work{Label: fmt.Sprint(i), Do: func(context.Context, *commands.Progress) error { return nil }}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if all := o.List(); len(all) > 1000 || all[len(all)-1].Label != "1499" {
			t.Errorf("%d kept, the last %s", len(all), all[len(all)-1].Label)
		}
	})
}
