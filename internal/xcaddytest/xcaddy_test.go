// Package xcaddytest holds one test, that the plugin can be built into Caddy
// from a checkout as xcaddy does it: a module that is not this one requires
// Caddy and the plugin, and replaces the plugin's source by the checkout.
package xcaddytest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	pluginPath = "github.com/caddy-fluster/caddy-fluster"
	caddyPath  = "github.com/caddyserver/caddy/v2"
)

const mainText = `package main

import (
	caddycmd "` + caddyPath + `/cmd"

	_ "` + pluginPath + `"
	_ "` + caddyPath + `/modules/standard"
)

func main() { caddycmd.Main() }
`

func TestBuildsFromACheckout(t *testing.T) {
	dir := t.TempDir()
	checkout := goOutput(t, ".", "list", "-m", "-f", "{{.Dir}}")
	version := goOutput(t, ".", "list", "-m", "-f", "{{.Version}}", caddyPath)
	goMod := fmt.Sprintf("module caddy\n\ngo 1.26.0\n\nrequire (\n\t%s %s\n\t%s v0.0.0\n)\n\nreplace %[3]s => %q\n",
		caddyPath, version, pluginPath, checkout)
	// With the sums of the checkout nothing has to be looked up.
	sums, err := os.ReadFile(filepath.Join(checkout, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"go.mod": goMod, "go.sum": string(sums), "main.go": mainText} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	// xcaddy also trims paths, which shares nothing with the build cache of
	// the other tests and makes no difference to what is asked here.
	program := filepath.Join(dir, "caddy.exe")
	goOutput(t, dir, "build", "-o", program, ".")

	out, err := exec.Command(program, "list-modules").CombinedOutput()
	if err != nil {
		t.Fatalf("caddy list-modules: %v\n%s", err, out)
	}
	modules := strings.Fields(string(out))
	for _, want := range []string{"fluster", "http.handlers.fluster_cache", "http.handlers.reverse_proxy"} {
		if !slices.Contains(modules, want) {
			t.Errorf("caddy list-modules has no %s", want)
		}
	}
}

// goOutput runs the go command in dir and returns what it prints.
func goOutput(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if args[0] == "build" {
		// go.mod names two requirements alone; the rest follows from theirs.
		cmd.Env = append(cmd.Env, "GOFLAGS=-mod=mod")
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}
