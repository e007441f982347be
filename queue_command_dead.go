package fluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// idsAtOnce is how many dead letters a request names.
const idsAtOnce = 200

// runQueueLong replays or drops dead letters, and shows how far it is.
func runQueueLong(cmd *cobra.Command, args []string, method, path, done string) error {
	all, _ := cmd.Flags().GetBool("all")
	name, ids := args[0], args[1:]
	if all == (len(ids) > 0) {
		return errors.New("name dead letters by their ids, or say --all")
	}
	total := len(ids)
	if all {
		var q queueStatus
		if _, err := getAdmin(cmd, queuePath(name), &q); err != nil {
			return err
		}
		total = int(q.Dead)
	}
	bar := newBar(cmd.OutOrStdout(), total, done)
	count := 0
	for chunk := range slices.Chunk(append([]string{}, ids...), idsAtOnce) {
		n, err := longRequest(cmd, method, queuePath(name)+path, done, whichDead{IDs: chunk}, func(n int) { bar.show(count + n) })
		count += n
		if err != nil {
			return bar.end(count, err)
		}
	}
	if all {
		n, err := longRequest(cmd, method, queuePath(name)+path, done, whichDead{All: true}, bar.show)
		return bar.end(n, err)
	}
	return bar.end(count, nil)
}

// longRequest sends a request that tells how far it is.
func longRequest(cmd *cobra.Command, method, path, done string, which whichDead, show func(int)) (n int, err error) {
	body, err := json.Marshal(which)
	if err != nil {
		return 0, err
	}
	resp, err := openAdmin(cmd, method, path, body, http.Header{"Accept": {mediaProgress}})
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := json.NewDecoder(resp.Body)
	for {
		var line map[string]any
		if err := lines.Decode(&line); err != nil {
			return n, fmt.Errorf("the admin endpoint broke off: %w", err)
		}
		if v, ok := line[done].(float64); ok {
			n = int(v)
			show(n)
		}
		if text, ok := line["error"].(string); ok {
			return n, errors.New(text)
		}
		if line["end"] == true {
			return n, nil
		}
	}
}

// A bar shows on a terminal how far something is, and in the end on standard
// output how far it came.
type bar struct {
	*progressbar.ProgressBar // nil where nobody looks on
	done                     string
	out                      io.Writer
}

func newBar(out io.Writer, total int, done string) *bar {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return &bar{done: done, out: out}
	}
	return &bar{done: done, out: out, ProgressBar: progressbar.NewOptions(total,
		progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription(done), progressbar.OptionShowCount(),
		progressbar.OptionThrottle(50*time.Millisecond), progressbar.OptionClearOnFinish())}
}

func (b *bar) show(n int) {
	if b.ProgressBar != nil {
		b.ChangeMax(max(b.GetMax(), n)) // more may die meanwhile
		b.Set(n)                        //nolint:errcheck // it is only shown
	}
}

func (b *bar) end(n int, err error) error {
	if b.ProgressBar != nil {
		b.Finish() //nolint:errcheck // it is only shown
	}
	fmt.Fprintf(b.out, "%d %s\n", n, b.done)
	return err
}
