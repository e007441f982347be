package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"time"
)

// get fetches URLs and prints them as `curl -i` would, for machines without
// curl. With -brief it prints status and time alone.
func get(ctx context.Context, out io.Writer, args []string) error {
	flags := flag.NewFlagSet("demo get", flag.ContinueOnError)
	host := flags.String("host", "", "the Host to ask for, instead of the URL's")
	brief := flags.Bool("brief", false, "print status and time alone")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("get needs a URL")
	}
	for _, url := range flags.Args() {
		if err := getOne(ctx, out, url, *host, *brief); err != nil {
			return err
		}
	}
	return nil
}

func getOne(ctx context.Context, out io.Writer, url, host string, brief bool) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	r.Host = host
	begin := time.Now()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("reading %s: %w", url, err)
	}
	if brief {
		_, err = fmt.Fprintf(out, "%d in %.6f s\n", resp.StatusCode, time.Since(begin).Seconds())
		return err
	}
	if _, err := fmt.Fprintf(out, "%s %s\r\n", resp.Proto, resp.Status); err != nil {
		return err
	}
	if err := resp.Header.Write(out); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "\r\n%s", body)
	return err
}
