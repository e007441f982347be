// Command caddy is Caddy with its standard modules and the fluster plugin,
// as xcaddy would build it.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-fluster/caddy-fluster"
)

func main() { caddycmd.Main() }
