package fluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-fluster/caddy-fluster/journal"
)

// command is `caddy fluster …`: what the admin endpoint does, from a shell.
var command = caddycmd.Command{
	Name:  "fluster",
	Usage: "status | explain <url> | warm [<url...>] | invalidate [soft] url|prefix|tag|host|all [<value...>] | queue ls|show|peek|replay|drop|pause|resume [<name>] [<id...>]",
	Short: "Asks a running Caddy about its cache and its queues, and tells it what to do with them",
	Long: `
'caddy fluster status' tells of the nodes and the near cache.

'caddy fluster invalidate' takes what may be published, as arguments:

	caddy fluster invalidate tag product-42 home
	caddy fluster invalidate soft prefix https://example.com/docs/

It prints the acknowledgement, and exits with 1 if too few nodes have it.

'caddy fluster explain https://example.com/page' tells what the cache would do with
a request, and what it has.

'caddy fluster warm' asks for URLs, so that they are stored before clients ask: see
'caddy fluster warm --help'.

'caddy fluster queue' looks after queues: see 'caddy fluster queue --help'.

All but warm ask the admin endpoint of a running Caddy, found by --address or --config.`,
	CobraFunc: func(cmd *cobra.Command) {
		cmd.PersistentFlags().StringP("address", "", "", "Address of the admin endpoint (if --config is not used)")
		cmd.PersistentFlags().StringP("config", "c", "", "Configuration file that names the admin endpoint")
		cmd.PersistentFlags().StringP("adapter", "a", "", "Config adapter (if --config is used)")
		status := &cobra.Command{
			Use: "status", Short: "Tells of the nodes and the near cache", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return runStatus(cmd) },
		}
		status.Flags().Bool("json", false, "Print what the admin endpoint said")
		invalidate := &cobra.Command{
			Use: "invalidate [soft] <kind> [<value...>]", Short: "Invalidates stored responses", Args: cobra.MinimumNArgs(1),
			RunE: runInvalidate,
		}
		invalidate.Flags().String("pool", "", "Name of the pool (default: the one without a name)")
		invalidate.Flags().Bool("wait", false, "Return when no process serves what is selected any more")
		cmd.AddCommand(status, explainCommand(), warmCommand(), invalidate, queueCommand())
		// A word that is no command is an error, in scripts above all.
		cmd.Args, cmd.RunE = cobra.NoArgs, func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	},
}

// runStatus prints a table of the nodes.
func runStatus(cmd *cobra.Command) error {
	_, body, err := askAdmin(cmd, http.MethodGet, "/fluster/status", nil)
	if err != nil {
		return err
	}
	if raw, _ := cmd.Flags().GetBool("json"); raw {
		_, err := os.Stdout.Write(body)
		return err
	}
	var s struct {
		Nodes []nodeStatus `json:"nodes"`
		Near  nearStatus   `json:"near"`
		Nears []nearStatus `json:"pools"`
	}
	if err := json.Unmarshal(body, &s); err != nil {
		return fmt.Errorf("reading the answer of the admin endpoint: %w", err)
	}
	t := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "POOL\tNODE\tSTATE\tFOR\tADDRESS\tREASON")
	for _, n := range s.Nodes {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", n.Pool, n.Name, n.State, time.Since(n.Since).Round(time.Second), n.Address, n.Reason)
	}
	fmt.Fprintf(t, "near cache: %d entries, %d of %d bytes\n", s.Near.Entries, s.Near.Bytes, s.Near.Maximum)
	for _, n := range s.Nears {
		fmt.Fprintf(t, "near cache of pool %s: %d entries, %d of %d bytes\n", n.Pool, n.Entries, n.Bytes, n.Maximum)
	}
	return t.Flush()
}

// runInvalidate posts what its arguments say.
func runInvalidate(cmd *cobra.Command, args []string) error {
	text := strings.Join(args, " ")
	targets, err := journal.ParseMessage(text)
	if err == nil && !utf8.ValidString(text) {
		err = errors.New("what is not UTF-8 cannot be sent as JSON; publish it as a message")
	}
	if err != nil {
		return err
	}
	req := Invalidation{}
	for _, t := range targets {
		req.add(t)
	}
	req.Pool, _ = cmd.Flags().GetString("pool")
	req.Wait, _ = cmd.Flags().GetBool("wait")
	body, err := json.Marshal(req)
	if err != nil {
		return err
	}
	status, answer, err := askAdmin(cmd, http.MethodPost, "/fluster/invalidate", body)
	if err != nil {
		return err
	}
	os.Stdout.Write(answer) //nolint:errcheck // there is nobody else to tell
	if status != http.StatusOK {
		return ErrQuorum
	}
	return nil
}

// askAdmin sends a request to the admin endpoint. An acknowledgement below the
// quorum is an answer, not an error.
func askAdmin(cmd *cobra.Command, method, path string, body []byte) (int, []byte, error) {
	resp, err := openAdmin(cmd, method, path, body, nil)
	if err != nil {
		if below, answer, ok := strings.Cut(err.Error(), "HTTP 503: "); ok && below != "" {
			return http.StatusServiceUnavailable, []byte(answer), nil
		}
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, errors.Join(errors.New("reading the answer of the admin endpoint"), err)
	}
	return resp.StatusCode, answer, nil
}

// openAdmin sends a request to the admin endpoint. The answer's body is the
// caller's to close.
func openAdmin(cmd *cobra.Command, method, path string, body []byte, header http.Header) (*http.Response, error) {
	flag := func(name string) string { s, _ := cmd.Flags().GetString(name); return s }
	address, err := caddycmd.DetermineAdminAPIAddress(flag("address"), nil, flag("config"), flag("adapter"))
	if err != nil {
		return nil, fmt.Errorf("finding the admin endpoint: %w", err)
	}
	if header == nil {
		header = http.Header{}
	}
	header.Set("Content-Type", "application/json")
	return caddycmd.AdminAPIRequest(address, method, path, header, bytes.NewReader(body))
}
