// The etcd server by itself: the module go.etcd.io/etcd/v3 holds a main package too, but cannot be installed from the proxy.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
