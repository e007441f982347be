package fluster_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const modulePath = "github.com/caddy-fluster/caddy-fluster"

// mayImport says for each package, by its folder, what it may import beside the
// standard library, and why. A name that ends in /... stands for all beneath
// it. To widen this list is a decision, not a fix.
var mayImport = map[string]map[string]string{
	".": {
		"github.com/caddyserver/caddy/v2/...":            "the root is the Caddy face, and alone knows Caddy",
		modulePath + "/httpcache":                        "the rules",
		modulePath + "/stored":                           "what lies on a node",
		modulePath + "/near":                             "what lies in this process",
		modulePath + "/shard":                            "the nodes",
		modulePath + "/journal":                          "what was invalidated",
		modulePath + "/queue":                            "messages on nodes",
		"github.com/redis/go-redis/v9/...":               "the commands of journal and listener; shard gives the clients",
		"github.com/cespare/xxhash/v2":                   "the names of keys, and the sums of chunks",
		"github.com/dustin/go-humanize":                  "sizes, read as Caddy reads them",
		"github.com/prometheus/client_golang/prometheus": "metrics, in Caddy's own registry",
		"golang.org/x/net/http/httpguts":                 "what is a field name",
		"github.com/dunglas/httpsfv":                     "caddy fluster warm reads Cache-Status",
		"golang.org/x/sync/errgroup":                     "what caddy fluster warm asks for at a time is bounded",
		"golang.org/x/sync/semaphore":                    "the room that all fills share",
		"golang.org/x/sync/singleflight":                 "chunks that several want at the same time",
		"golang.org/x/time/rate":                         "fluster_invalidate has a limit",
		"go.uber.org/zap/...":                            "Caddy's logger",
		"github.com/spf13/cobra":                         "caddy fluster …: Caddy's command line is made of it",
		"github.com/schollz/progressbar/v3":              "how far a long command is",
		"golang.org/x/term":                              "whether somebody looks on",
	},
	"httpcache": {
		"github.com/dunglas/httpsfv": "structured fields (RFC 9651) in targeted Cache-Control and the like",
	},
	"stored": {
		modulePath + "/httpcache":      "the terms of a response are stored with it",
		"github.com/cespare/xxhash/v2": "the checksum",
	},
	"near": {
		"github.com/maypok86/otter/v2": "eviction",
	},
	"shard": {
		"github.com/redis/go-redis/v9/...": "the clients",
		"github.com/cespare/xxhash/v2":     "rendezvous hashing",
	},
	"journal": {
		"golang.org/x/net/idna": "hosts that are not ASCII, as clients send them",
	},
	"queue": {
		modulePath + "/shard":              "the nodes that a queue lies on",
		"github.com/redis/go-redis/v9/...": "streams, scripts, subscriptions; shard gives the clients",
		"github.com/cespare/xxhash/v2":     "which node a key prefers",
		"github.com/oklog/ulid/v2":         "ids that sort by time",
	},
	"cmd/caddy": {
		modulePath:                            "the plugin is linked in",
		"github.com/caddyserver/caddy/v2/...": "it is Caddy",
	},
	"internal/redistest": {
		"github.com/redis/go-redis/v9/...": "whether a server answers",
	},
	"internal/caddytest": {
		modulePath + "/internal/redistest":    "free ports, and children that end with the test",
		"github.com/caddyserver/caddy/v2/...": "it runs Caddy for tests",
		"golang.org/x/sys/unix":               "how many packets a response has come in",
	},
	"internal/demo": {
		modulePath + "/internal/redistest": "the demo's nodes",
	},
	"internal/xcaddytest":  {},
	"internal/conformance": {}, // it runs Caddy as a program
	"internal/soak": {
		modulePath:                         "the plugin that it tries",
		modulePath + "/internal/caddytest": "Caddys",
	},
	"internal/chaos": {
		modulePath:                         "the plugin that it tries",
		modulePath + "/internal/caddytest": "Caddys",
	},
}

// testsMayImport is what the tests of every package may import besides.
var testsMayImport = map[string]string{
	modulePath + "/internal/redistest":    "real servers",
	"github.com/google/go-cmp/cmp/...":    "differences",
	"github.com/redis/go-redis/v9/...":    "a look at a server",
	"go.uber.org/goleak":                  "goroutines that are left",
	"github.com/cespare/xxhash/v2":        "checksums of golden values",
	"github.com/dunglas/httpsfv":          "structured fields of expectations",
	"github.com/prometheus/client_golang": "what was counted",
	"golang.org/x/net/http2/...":          "a client that reads nothing of what it asked for",
	"github.com/quic-go/quic-go/http3":    "a client of HTTP/3, which Caddy has anyway",

	"github.com/standard-webhooks/standard-webhooks/libraries/go": "whether others take our signatures",
}

// TestImports is the architecture: imports point one way, and Caddy is known to
// the root alone.
func TestImports(t *testing.T) {
	found := packageImports(t)
	for _, dir := range slices.Sorted(maps.Keys(found)) {
		allowed, ok := mayImport[dir]
		if !ok {
			t.Errorf("package %s is not in mayImport; say what it may import, and why", dir)
			continue
		}
		for _, i := range found[dir] {
			if !mayBeImported(i, dir, allowed) {
				t.Errorf("%s imports %s, which mayImport does not let package %s do", i.file, i.path, dir)
			}
		}
	}
	for dir := range mayImport {
		if found[dir] == nil {
			t.Errorf("mayImport has package %s, which is not there", dir)
		}
	}
}

// TestImportsAreNeeded keeps the list as narrow as the code.
func TestImportsAreNeeded(t *testing.T) {
	found := packageImports(t)
	for dir, allowed := range mayImport {
		for pattern, why := range allowed {
			if why == "" {
				t.Errorf("mayImport lets %s import %s and does not say why", dir, pattern)
			}
			if !slices.ContainsFunc(found[dir], func(i fileImport) bool { return matchesImport(pattern, i.path) }) {
				t.Errorf("mayImport lets %s import %s, which it does not", dir, pattern)
			}
		}
	}
}

// fileImport is one import of one file.
type fileImport struct{ file, path string }

func (i fileImport) ofTest() bool { return strings.HasSuffix(i.file, "_test.go") }

// packageImports returns all imports outside the standard library, by the
// folder of the package, whatever the build tags of the file.
func packageImports(t *testing.T) map[string][]fileImport {
	t.Helper()
	out := map[string][]fileImport{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skipFolder(path, d.Name())
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(path))
		if out[dir] == nil {
			out[dir] = []fileImport{}
		}
		for _, spec := range f.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if first, _, _ := strings.Cut(name, "/"); strings.Contains(first, ".") {
				out[dir] = append(out[dir], fileImport{path, name})
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// skipFolder leaves out what is no package of this module.
func skipFolder(path, name string) error {
	if path == "." {
		return nil
	}
	if name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return filepath.SkipDir
	}
	if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
		return filepath.SkipDir // a module of its own
	}
	return nil
}

func mayBeImported(i fileImport, dir string, allowed map[string]string) bool {
	for pattern := range allowed {
		if matchesImport(pattern, i.path) {
			return true
		}
	}
	if !i.ofTest() {
		return false
	}
	own := i.path == modulePath+"/"+dir || dir == "." && (i.path == modulePath || i.path == modulePath+"/internal/caddytest")
	for pattern := range testsMayImport {
		own = own || matchesImport(pattern, i.path)
	}
	return own
}

func matchesImport(pattern, path string) bool {
	base, all := strings.CutSuffix(pattern, "/...")
	return path == base || all && strings.HasPrefix(path, base+"/")
}
