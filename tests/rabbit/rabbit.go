// Package rabbit runs Debian's own RabbitMQ for tests: a broker in a temporary directory, on loopback, with a port mapper
// of its own, ended with the test.
package rabbit

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"ledgerline/tests/ports"
)

// Start is Debian's RabbitMQ in a directory of its own, on loopback, with an epmd of its own; ended with the test.
// ok is false where it is not installed: then with CI=true the test fails, and else it says so.
func Start(t testing.TB) (url string, ok bool) {
	t.Helper()
	const server = "/usr/lib/rabbitmq/bin/rabbitmq-server"
	epmd, err := exec.LookPath("epmd")
	if _, missing := os.Stat(server); missing != nil || err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("RabbitMQ is not installed; .ci/run installs it")
		}
		t.Log("RabbitMQ is not installed: not tried")
		return "", false
	}
	dir, err := os.MkdirTemp("", "ledgerline-rabbitmq-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	mapper, broker, cluster := strconv.Itoa(ports.Free(t)), strconv.Itoa(ports.Free(t)), strconv.Itoa(ports.Free(t))
	if err := os.WriteFile(filepath.Join(dir, "enabled"), []byte("[]."), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(cmd *exec.Cmd) {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Signal(os.Interrupt)
			done := make(chan struct{})
			go func() { _ = cmd.Wait(); close(done) }()
			select {
			case <-done:
			case <-time.After(20 * time.Second):
				_ = cmd.Process.Kill()
				<-done
			}
		})
	}
	run(exec.Command(epmd, "-port", mapper, "-address", "127.0.0.1"))
	cmd := exec.Command(server)
	cmd.Env = append(os.Environ(), "HOME="+dir, "ERL_EPMD_PORT="+mapper, "RABBITMQ_NODENAME=ledgerline"+broker+"@localhost", "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
		"RABBITMQ_NODE_PORT="+broker, "RABBITMQ_DIST_PORT="+cluster, "RABBITMQ_MNESIA_BASE="+dir+"/db", "RABBITMQ_LOG_BASE="+dir+"/log", "RABBITMQ_LOGS=-",
		"RABBITMQ_ENABLED_PLUGINS_FILE="+dir+"/enabled", "RABBITMQ_CONFIG_FILE="+dir+"/none", "RABBITMQ_PID_FILE="+dir+"/pid")
	var log lockedBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	// The script ends by the runtime's signal: it becomes the runtime (exec).
	run(cmd)
	url = "amqp://guest:guest@127.0.0.1:" + broker + "/"
	tick, deadline := time.NewTicker(50*time.Millisecond), time.After(90*time.Second)
	defer tick.Stop()
	for {
		c, err := amqp.Dial(url)
		if err == nil {
			_ = c.Close()
			return url, true
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("RabbitMQ does not start: %v\n%s", err, log.String())
		}
	}
}

// Listen is a channel to the broker, on which the exchange of a Wazo platform is declared, and what is published there
// with headers as bind says; both end with the test.
func Listen(t testing.TB, url string, bind amqp.Table) (*amqp.Channel, <-chan amqp.Delivery) {
	t.Helper()
	conn, err := amqp.Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if err := ch.ExchangeDeclare("wazo-headers", "headers", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	q, err := ch.QueueDeclare("listener", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := ch.QueueBind(q.Name, "", "wazo-headers", false, bind); err != nil {
		t.Fatal(err)
	}
	heard, err := ch.Consume(q.Name, "", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ch, heard
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
