package fluster_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write what the Caddyfiles in testdata/caddyfile adapt to; read the difference before you believe it")

const caddyfileSeparator = "\n----------\n"

// TestCaddyfiles adapts each testdata/caddyfile/*.caddyfiletest: a Caddyfile, a
// line of ten hyphens, and the JSON that it adapts to, or the error.
func TestCaddyfiles(t *testing.T) {
	files, err := filepath.Glob("testdata/caddyfile/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddyfiletest"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, want, ok := strings.Cut(string(b), caddyfileSeparator)
			if !ok && !*update {
				t.Fatalf("%s has no line of ten hyphens", file)
			}
			got := adapt(input)
			if *update {
				if err := os.WriteFile(file, []byte(strings.TrimRight(input, "\n")+"\n"+caddyfileSeparator[1:]+got+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(strings.TrimSpace(want), got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", file, diff)
			}
		})
	}
}

// adapt returns the JSON of a Caddyfile, or its error.
func adapt(input string) string {
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(input), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return "error: " + err.Error()
	}
	var out bytes.Buffer
	if err := json.Indent(&out, config, "", "\t"); err != nil {
		return "error: " + err.Error()
	}
	for _, w := range warnings {
		if !strings.Contains(w.Message, "not formatted") {
			out.WriteString("\nwarning: " + w.String())
		}
	}
	return out.String()
}

// TestCaddyfilesHideSecrets looks into the errors of all test data for the
// password that stands in them.
func TestCaddyfilesHideSecrets(t *testing.T) {
	files, _ := filepath.Glob("testdata/caddyfile/error_password*.caddyfiletest")
	if len(files) == 0 {
		t.Fatal("no test data")
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		input, _, _ := strings.Cut(string(b), caddyfileSeparator)
		if !strings.Contains(input, "ter2") {
			t.Fatalf("%s has no password in it", file)
		}
		got := adapt(input)
		if !strings.HasPrefix(got, "error:") || strings.Contains(got, "hunter") || strings.Contains(got, "ter2") {
			t.Errorf("%s: want an error without the password, got %s", file, got)
		}
	}
}
