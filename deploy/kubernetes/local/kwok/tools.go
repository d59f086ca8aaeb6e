// Package kwok only pins what the build script builds: go.mod names the program (`tool`), go.sum its checksums.
package kwok
