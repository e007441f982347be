package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// peers measures a hit of 4 KiB in other caches in the same turns. They are
// told, not judged: both are written in C, and Caddy is what it is.
func peers(l *Lab, r *Report) error {
	cache, _, addr, err := l.cacheBefore("fluster", "")
	if err != nil {
		return err
	}
	_, originAddr, err := l.startOrigin()
	if err != nil {
		return err
	}
	ours := Side{Name: "near hit", Load: Load{URL: "http://" + addr + "/fresh/4096"}, Servers: []*Process{cache}}
	for name, start := range map[string]func(*Lab, string) (*Process, string, error){"nginx": startNginx, "Varnish": startVarnish} {
		p, peerAddr, err := start(l, originAddr)
		if err != nil {
			r.skip("near hit, 4 KiB, and "+name, err)
			continue
		}
		theirs := Side{Name: name, Load: Load{URL: "http://" + peerAddr + "/fresh/4096"}, Servers: []*Process{p}}
		c, err := l.compare(ours, theirs)
		if err != nil {
			return err
		}
		r.addRatio("hit in memory, 4 KiB", ours, theirs, c, 0)
	}
	return nil
}

func startNginx(l *Lab, origin string) (*Process, string, error) {
	path, err := findServer("nginx")
	if err != nil {
		return nil, "", err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, "", err
	}
	dir := filepath.Join(l.dir, "nginx")
	if err := os.MkdirAll(filepath.Join(dir, "tmp"), 0o755); err != nil {
		return nil, "", err
	}
	user := ""
	if os.Getuid() == 0 {
		user = "user root;"
	}
	config := fmt.Sprintf(`%s daemon off; worker_processes 2; pid %[2]s/pid; error_log %[2]s/error.log;
events { worker_connections 256; }
http {
	access_log off; keepalive_requests 1000000000;
	client_body_temp_path %[2]s/tmp; proxy_temp_path %[2]s/tmp; fastcgi_temp_path %[2]s/tmp; uwsgi_temp_path %[2]s/tmp; scgi_temp_path %[2]s/tmp;
	proxy_cache_path %[2]s/cache keys_zone=bench:10m;
	upstream origin { server %[3]s; keepalive 32; }
	server {
		listen %[4]s;
		location / { proxy_pass http://origin; proxy_cache bench; proxy_http_version 1.1; proxy_set_header Connection ""; add_header X-Cache $upstream_cache_status; }
	}
}
`, user, dir, origin, addr)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, "", err
	}
	p, err := l.start("nginx", addr, exec.Command(path, "-p", dir, "-c", file))
	return p, addr, err
}

func startVarnish(l *Lab, origin string) (*Process, string, error) {
	path, err := findServer("varnishd")
	if err != nil {
		return nil, "", err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, "", err
	}
	cmd := exec.Command(path, "-F", "-j", "none", "-n", filepath.Join(l.dir, "varnish"), "-a", addr, "-b", origin, "-s", "malloc,64m")
	p, err := l.start("varnish", addr, cmd)
	return p, addr, err
}

// findServer finds a program where servers are installed, which is not on
// everybody's PATH.
func findServer(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"} {
		if path := filepath.Join(dir, name); isExecutable(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed; this installs it: sh scripts/install-bench.sh (at the top of the repository)", name)
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir() && info.Mode()&0o111 != 0
}
