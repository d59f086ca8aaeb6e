package data

import (
	"os"

	"github.com/redis/go-redis/v9"
)

// Conf of the data layer.
type Conf struct {
	RedisURL string
	Script   string
}

// Data holds the clients.
type Data struct {
	rdb   *redis.Client
	admit *redis.Script
}

// NewData connects.
func NewData(c Conf) (*Data, func(), error) {
	source, err := os.ReadFile(c.Script)
	if err != nil {
		return nil, nil, err
	}
	options, err := redis.ParseURL(c.RedisURL)
	if err != nil {
		return nil, nil, err
	}
	rdb := redis.NewClient(options)
	return &Data{rdb: rdb, admit: redis.NewScript(string(source))}, func() { _ = rdb.Close() }, nil
}
