package fluster

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// explainCommand is `caddy fluster explain <url>`.
func explainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "explain <url>", Short: "Tells what the cache would do with a request, and why", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runExplain(cmd, args[0]) },
	}
	cmd.Flags().StringArrayP("header", "H", nil, "A field of the request, as Name: value (may be given several times)")
	cmd.Flags().Bool("json", false, "Print what the admin endpoint said")
	return cmd
}

// runExplain prints an explanation.
func runExplain(cmd *cobra.Command, asked string) error {
	header, _ := cmd.Flags().GetStringArray("header")
	query := url.Values{"url": {asked}, "header": header}
	_, body, err := askAdmin(cmd, http.MethodGet, "/fluster/explain?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	if raw, _ := cmd.Flags().GetBool("json"); raw {
		_, err := cmd.OutOrStdout().Write(body)
		return err
	}
	var e Explanation
	if err := json.Unmarshal(body, &e); err != nil {
		return fmt.Errorf("reading the answer of the admin endpoint: %w", err)
	}
	return e.print(cmd.OutOrStdout())
}

// print writes the explanation for people.
func (e *Explanation) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	row := func(name, value string) { fmt.Fprintf(t, "%s\t%s\n", name, value) }
	row("url", e.URL)
	would := e.Would
	if e.Why != "" && e.Why != e.Would {
		would += " (" + e.Why + ")"
	}
	row("would", would)
	row("key", strings.ReplaceAll(e.Key, "\n", "\n\t"))
	if e.Pool != "" {
		row("pool", e.Pool)
	}
	var nodes []string
	for _, n := range e.Nodes {
		nodes = append(nodes, n.Name+" "+n.State)
	}
	if len(nodes) > 0 {
		row("nodes", strings.Join(nodes, ", "))
	}
	row("near", e.Near.String())
	if len(e.Nodes) > 0 {
		row("node", e.Node.String())
	}
	if e.Alone {
		row("alone", "the last response was not to be shared: nobody waits for another's")
	}
	return t.Flush()
}

// String tells of the response in one line.
func (r *ExplainedResponse) String() string {
	if r == nil {
		return "nothing"
	}
	if r.Status == 0 {
		return fmt.Sprintf("%s: none of %d variants", r.State, r.Variants)
	}
	words := []string{
		r.State, fmt.Sprint("status ", r.Status), fmt.Sprint("age ", time.Duration(r.Age)*time.Second),
		fmt.Sprint("ttl ", time.Duration(r.TTL)*time.Second), fmt.Sprint(r.Size, " bytes"),
	}
	if r.Chunks > 0 {
		words = append(words, fmt.Sprint("in ", r.Chunks, " chunks"))
	}
	if r.ETag != "" {
		words = append(words, "etag "+r.ETag)
	}
	if len(r.Tags) > 0 {
		words = append(words, "tags "+strings.Join(r.Tags, " "))
	}
	if r.Variants > 0 {
		words = append(words, fmt.Sprint("one of ", r.Variants, " variants"))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Varies)) {
		words = append(words, name+": "+r.Varies[name])
	}
	return strings.Join(words, ", ")
}
