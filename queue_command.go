package fluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// queueCommand is `caddy fluster queue …`: what the admin endpoint does with
// queues, from a shell.
func queueCommand() *cobra.Command {
	c := &cobra.Command{Use: "queue", Short: "Looks after queues", Long: `
'ls' lists the queues, 'show' tells of one per node, or of one of its messages.

	caddy fluster queue show webhooks 01J9ZK3V9T1R0EJ3W4ZB2M6Q5D --body

'peek' lists messages that wait or are being delivered, or with --dead the dead
letters, the oldest first. 'replay' makes dead letters ready again, under their
ids, and 'drop' deletes them: those that are named, or --all.

	caddy fluster queue peek webhooks --dead
	caddy fluster queue replay webhooks --all

'pause' keeps the workers of all Caddys from taking messages, until 'resume'.
Requests are accepted meanwhile.`, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	list := &cobra.Command{Use: "ls", Short: "Lists the queues", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return runQueueList(cmd) }}
	show := &cobra.Command{Use: "show <name> [<id>]", Short: "Tells of a queue, or of a message", Args: cobra.RangeArgs(1, 2), RunE: runQueueShow}
	show.Flags().Bool("body", false, "Print the message's body, too")
	peek := &cobra.Command{Use: "peek <name>", Short: "Lists messages", Args: cobra.ExactArgs(1), RunE: runQueuePeek}
	peek.Flags().Bool("dead", false, "List dead letters")
	peek.Flags().IntP("number", "n", 20, "How many (0: all, of dead letters)")
	for _, cmd := range []*cobra.Command{list, show, peek} {
		cmd.Flags().Bool("json", false, "Print what the admin endpoint said")
	}
	replay := &cobra.Command{Use: "replay <name> [<id...>]", Short: "Makes dead letters ready again", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runQueueLong(cmd, args, http.MethodPost, "/dead/replay", "replayed")
		}}
	drop := &cobra.Command{Use: "drop <name> [<id...>]", Short: "Deletes dead letters", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runQueueLong(cmd, args, http.MethodDelete, "/dead", "dropped")
		}}
	for _, cmd := range []*cobra.Command{replay, drop} {
		cmd.Flags().Bool("all", false, "All dead letters")
	}
	pause := &cobra.Command{Use: "pause <name>", Short: "Keeps workers from taking messages", Args: cobra.ExactArgs(1), RunE: runQueueSwitch}
	resume := &cobra.Command{Use: "resume <name>", Short: "Lets workers take messages again", Args: cobra.ExactArgs(1), RunE: runQueueSwitch}
	c.AddCommand(list, show, peek, replay, drop, pause, resume)
	return c
}

// newTable returns a writer that makes columns of what stands between tabs.
func newTable(cmd *cobra.Command) *tabwriter.Writer {
	return tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
}

// queuePath is the path of a queue's resources on the admin endpoint.
func queuePath(name string) string { return "/fluster/queues/" + url.PathEscape(name) }

// getAdmin asks for JSON. Where the flag json is set, it prints that instead, and
// reports so.
func getAdmin(cmd *cobra.Command, path string, into any) (printed bool, err error) {
	status, body, err := askAdmin(cmd, http.MethodGet, path, nil)
	if err != nil {
		return false, err
	}
	if status != http.StatusOK {
		return false, fmt.Errorf("the admin endpoint answered %d: %s", status, body)
	}
	if raw, _ := cmd.Flags().GetBool("json"); raw {
		_, err := cmd.OutOrStdout().Write(body)
		return true, err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return false, fmt.Errorf("reading the answer of the admin endpoint: %w", err)
	}
	return false, nil
}

func runQueueList(cmd *cobra.Command) error {
	var queues []queueStatus
	if printed, err := getAdmin(cmd, "/fluster/queues", &queues); printed || err != nil {
		return err
	}
	t := newTable(cmd)
	fmt.Fprintln(t, "POOL\tQUEUE\tREADY\tIN FLIGHT\tDELAYED\tDEAD\tOLDEST\tSTATE")
	for _, q := range queues {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\n", q.Pool, q.Name, q.Ready, q.InFlight, q.Delayed, q.Dead, wholeSeconds(q.OldestSeconds), q.state())
	}
	return t.Flush()
}

// state is what else there is to say of a queue, in a word or two.
func (q *queueStatus) state() string {
	words := []string{}
	if q.Paused {
		words = append(words, "paused")
	}
	if q.Partial {
		words = append(words, "a node is away")
	}
	for _, destination := range slices.Sorted(maps.Keys(q.Abandoned)) {
		words = append(words, fmt.Sprintf("%d for %s, which is not in the configuration", q.Abandoned[destination], blockName(destination)))
	}
	return strings.Join(words, ", ")
}

// blockName is what to call a deliver block.
func blockName(destination string) string {
	if destination == "" {
		return "a deliver block without a name"
	}
	return "deliver " + destination
}

func wholeSeconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Second).String()
}

func runQueueShow(cmd *cobra.Command, args []string) error {
	if len(args) == 2 {
		return runMessageShow(cmd, args[0], args[1])
	}
	var q queueStatus
	if printed, err := getAdmin(cmd, queuePath(args[0]), &q); printed || err != nil {
		return err
	}
	t := newTable(cmd)
	fmt.Fprintln(t, "NODE\tREADY\tIN FLIGHT\tDELAYED\tDEAD\tOLDEST\tERROR")
	for _, n := range q.Nodes {
		name := n.Node
		if n.Partition > 0 {
			name += "/" + strconv.Itoa(n.Partition)
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%s\t%s\n", name, n.Ready, n.InFlight, n.Delayed, n.Dead, wholeSeconds(n.OldestSeconds), n.Error)
	}
	fmt.Fprintf(t, "all\t%d\t%d\t%d\t%d\t%s\t%s\n", q.Ready, q.InFlight, q.Delayed, q.Dead, wholeSeconds(q.OldestSeconds), q.state())
	if err := t.Flush(); err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	for _, w := range q.Workers {
		of := ""
		if w.Destination != "" {
			of = ", deliver " + w.Destination
		}
		fmt.Fprintf(out, "worker of this Caddy%s: %d under way", of, w.InFlight)
		if w.RestsUntil != nil {
			fmt.Fprintf(out, ", rests until %s, as its destination fails", w.RestsUntil.Local().Format(time.TimeOnly))
		}
		fmt.Fprintln(out)
	}
	return nil
}

func runMessageShow(cmd *cobra.Command, name, id string) error {
	withBody, _ := cmd.Flags().GetBool("body")
	path := queuePath(name) + "/messages/" + url.PathEscape(id)
	if withBody {
		path += "?body=true"
	}
	var m messageStatus
	if printed, err := getAdmin(cmd, path, &m); printed || err != nil {
		return err
	}
	if len(m.Deliveries) == 0 {
		m.Deliveries = []messageStatus{m}
	}
	for _, d := range m.Deliveries {
		d.print(cmd)
	}
	switch out := cmd.OutOrStdout(); {
	case m.Body != nil:
		fmt.Fprintf(out, "\n%s\n", *m.Body)
	case withBody:
		fmt.Fprintln(out)
		_, err := out.Write(m.Base64) // as it is
		return err
	}
	return nil
}

// print writes what is known of a message, a line for each thing that is.
func (m *messageStatus) print(cmd *cobra.Command) {
	t := newTable(cmd)
	line := func(name, format string, v any, is bool) {
		if is {
			fmt.Fprintf(t, name+"\t"+format+"\n", v)
		}
	}
	line("id", "%s", m.ID, true)
	line("destination", "%s", m.Destination, m.Destination != "")
	line("state", "%s", m.State, true)
	line("reason", "%s", m.Reason, m.Reason != "")
	line("request", "%s", m.request(), m.Method != "")
	line("size", "%d", m.Size, true)
	line("attempts", "%d", m.Attempts, true)
	line("last status", "%d", m.LastStatus, m.LastStatus != 0)
	line("last error", "%s", m.LastError, m.LastError != "")
	line("priority", "%s", m.Class, m.Class != "")
	line("node", "%s", m.Node, m.Node != "")
	line("accepted", "%s", local(m.AcceptedAt), m.AcceptedAt != nil)
	line("due", "%s", local(m.DueAt), m.DueAt != nil)
	line("died", "%s", local(m.DiedAt), m.DiedAt != nil)
	t.Flush() //nolint:errcheck // there is nobody else to tell
}

func (m *messageStatus) request() string {
	return strings.TrimSpace(m.Method + " " + m.Host + m.URI)
}

func local(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.Local().Format(time.DateTime)
}

func runQueuePeek(cmd *cobra.Command, args []string) error {
	number, _ := cmd.Flags().GetInt("number")
	dead, _ := cmd.Flags().GetBool("dead")
	if number < 0 || number == 0 && !dead {
		return errors.New("--number must be at least 1")
	}
	t := newTable(cmd)
	next := queuePath(args[0]) + "/messages?limit=" + strconv.Itoa(min(number, maxPage))
	if dead {
		limit := maxPage
		if number > 0 {
			limit = min(number, maxPage)
		}
		next = queuePath(args[0]) + "/dead?limit=" + strconv.Itoa(limit)
	}
	raw, _ := cmd.Flags().GetBool("json")
	if !raw {
		fmt.Fprintln(t, "ID\tSTATE\tATTEMPTS\tACCEPTED\tREQUEST\tREASON")
	}
	for got := 0; next != "" && (number == 0 || got < number); {
		messages, after, err := peekPage(cmd, next)
		if err != nil {
			return err
		}
		if number > 0 {
			messages = messages[:min(len(messages), number-got)]
		}
		got += len(messages)
		next = after
		for _, m := range messages {
			if raw {
				if err := json.NewEncoder(cmd.OutOrStdout()).Encode(m); err != nil {
					return err
				}
				continue
			}
			fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\n", m.ID, m.State, m.Attempts, local(m.AcceptedAt), m.request(), m.Reason)
		}
	}
	return t.Flush()
}

// peekPage gets a page of messages, and the path of the next one.
func peekPage(cmd *cobra.Command, path string) (messages []messageStatus, next string, err error) {
	resp, err := openAdmin(cmd, http.MethodGet, path, nil, nil)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&messages); err != nil {
		return nil, "", fmt.Errorf("reading the answer of the admin endpoint: %w", err)
	}
	if link, ok := strings.CutSuffix(resp.Header.Get("Link"), `>; rel="next"`); ok {
		next = strings.TrimPrefix(link, "<")
	}
	return messages, next, nil
}

// runQueueSwitch pauses or resumes a queue, as the command is called.
func runQueueSwitch(cmd *cobra.Command, args []string) error {
	status, body, err := askAdmin(cmd, http.MethodPost, queuePath(args[0])+"/"+cmd.Name(), nil)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("the admin endpoint answered %d: %s", status, body)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "queue %s: %sd\n", args[0], cmd.Name())
	return nil
}
