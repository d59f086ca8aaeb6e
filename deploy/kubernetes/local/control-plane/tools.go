// Package controlplane only pins what the build script builds: go.mod names the programs (`tool`), go.sum their checksums.
package controlplane
