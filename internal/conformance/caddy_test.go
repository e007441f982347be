package conformance

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-fluster/caddy-fluster/internal/redistest"
)

// built is the folder with the Caddy of this test run, "" until it is built.
var built string

// caddyBinary returns the path of Caddy with the plugin; the first call builds
// it, as its users would.
var caddyBinary = sync.OnceValues(func() (path string, err error) {
	root := filepath.Join("..", "..")
	if err := consult(root); err != nil {
		return "", err
	}
	if built, err = os.MkdirTemp("", "fluster-conformance-"); err != nil {
		return "", err
	}
	path = filepath.Join(built, "caddy")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/caddy")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building Caddy: %w\n%s", err, out)
	}
	return path, nil
})

func removeCaddy() {
	if built != "" {
		_ = os.RemoveAll(built)
	}
}

// consult looks at all source files of the module. The go tool sees that, and
// does not repeat an old result after one of them has changed.
func consult(root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch name := filepath.Base(path); {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(name, ".") && name != "..":
			return filepath.SkipDir
		case strings.HasSuffix(name, ".go") || name == "go.mod":
			_, err = os.Stat(path)
		}
		return err
	})
}

// The sites of the Caddy. A row belongs to one of them.
const (
	siteRFC    = "rfc"    // all that the RFCs let a shared cache do
	siteSafe   = "safe"   // the defaults
	siteSearch = "search" // No-Vary-Search counts
)

// configuration has one listener, which speaks HTTP/1.1 and unencrypted HTTP/2,
// and a path for each site. The origin's connections are not kept, so that no
// request is sent twice where one of them breaks off.
const configuration = `{
	admin %[1]s
	auto_https off
	persist_config off
	grace_period 2s
	storage file_system %[2]s
	log {
		level ERROR
	}
	servers {
		protocols h1 h2c
	}
	fluster {
		%[3]s
	}
}
(origin) {
	reverse_proxy %[4]s {
		transport http {
			keepalive off
			compression off
		}
	}
}
http://:%[5]s {
	bind 127.0.0.1
	handle /rfc/* {
		fluster_cache {
			profile rfc
			client_directives honor
		}
		import origin
	}
	handle /safe/* {
		fluster_cache
		import origin
	}
	handle /search/* {
		fluster_cache {
			profile rfc
			no_vary_search
		}
		import origin
	}
}
`

// A caddy is a Caddy in a process of its own, and the origin behind it.
type caddy struct {
	addr   string
	origin *origin
	quiet  sync.RWMutex // held by a row that is quiet, and read-held by those that invalidate
}

// startCaddy starts a Caddy whose global option fluster has these lines, and
// returns when it answers. It ends with the test.
func startCaddy(t *testing.T, fluster string) *caddy {
	t.Helper()
	c := &caddy{addr: freeAddr(t), origin: startOrigin(t)}
	admin, dir := freeAddr(t), t.TempDir()
	_, port, _ := net.SplitHostPort(c.addr)
	file := filepath.Join(dir, "Caddyfile")
	text := fmt.Sprintf(configuration, admin, filepath.Join(dir, "storage"), fluster, c.origin.addr, port)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	binary, err := caddyBinary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "run", "--config", file, "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	cmd.Stdout, cmd.Stderr = out, out
	child, err := redistest.StartChild(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := child.Stop(20 * time.Second); err != nil {
			t.Error(err)
		}
		if text, _ := os.ReadFile(out.Name()); strings.Contains(string(text), "panic:") || strings.Contains(string(text), "DATA RACE") {
			t.Errorf("Caddy wrote:\n%s", text)
		}
	})
	eventually(t, "Caddy answers", func() bool {
		if !child.Running() {
			text, _ := os.ReadFile(out.Name())
			t.Fatalf("Caddy has ended:\n%s", text)
		}
		return answers("http://"+admin+"/config/") && answers("http://"+c.addr+"/")
	})
	return c
}

func answers(url string) bool {
	resp, err := http.Get(url) //nolint:noctx // it is asked again
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil
}

func freeAddr(t *testing.T) string {
	t.Helper()
	port, err := redistest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// eventually asks ok again and again, and fails the test where it stays false.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}
