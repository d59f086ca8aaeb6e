// The same Purchase as Kaimai's, as a team on go-kratos writes it: one call of the admission script per request.
package main

import (
	"flag"
	"os"

	"github.com/go-kratos/kratos/v2"
	"github.com/go-kratos/kratos/v2/log"
	"github.com/go-kratos/kratos/v2/transport/grpc"
	"github.com/go-kratos/kratos/v2/transport/http"

	"kaimai.bench/kratos/internal/biz"
	"kaimai.bench/kratos/internal/data"
	"kaimai.bench/kratos/internal/server"
	"kaimai.bench/kratos/internal/service"
)

func newApp(logger log.Logger, gs *grpc.Server, hs *http.Server) *kratos.App {
	return kratos.New(
		kratos.Name("peer-kratos"),
		kratos.Logger(logger),
		kratos.Server(gs, hs),
	)
}

func main() {
	addr := flag.String("addr", "127.0.0.1:9000", "where to listen for gRPC")
	httpAddr := flag.String("http", "127.0.0.1:8000", "where to listen for JSON")
	redisURL := flag.String("redis", "redis://127.0.0.1:6379", "URL of Redis")
	script := flag.String("script", "", "the admission script")
	flag.Parse()

	logger := log.NewFilter(log.NewStdLogger(os.Stderr), log.FilterLevel(log.LevelWarn))
	d, cleanup, err := data.NewData(data.Conf{RedisURL: *redisURL, Script: *script})
	if err != nil {
		log.NewHelper(logger).Fatal(err)
	}
	defer cleanup()
	usecase := biz.NewSeckillUsecase(data.NewAdmissionRepo(d))
	seckill := service.NewSeckillService(usecase)
	app := newApp(logger, server.NewGRPCServer(*addr, seckill), server.NewHTTPServer(*httpAddr, seckill))
	if err := app.Run(); err != nil {
		log.NewHelper(logger).Fatal(err)
	}
}
