package server

import (
	"context"

	"github.com/go-kratos/kratos/v2/middleware/recovery"
	"github.com/go-kratos/kratos/v2/transport/http"

	v1 "kaimai.bench/kratos/gen/seckill/v1"
	"kaimai.bench/kratos/internal/service"
)

// NewHTTPServer makes the listener of JSON. Its route is what protoc-gen-go-http generates for Kaimai's HTTP rule.
func NewHTTPServer(addr string, seckill *service.SeckillService) *http.Server {
	srv := http.NewServer(
		http.Address(addr),
		http.Middleware(recovery.Recovery(), identity()),
	)
	srv.Route("/").POST("/v1/seckill", func(ctx http.Context) error {
		var in v1.PurchaseRequest
		if err := ctx.Bind(&in); err != nil {
			return err
		}
		http.SetOperation(ctx, "/seckill.v1.SeckillService/Purchase")
		h := ctx.Middleware(func(ctx context.Context, req any) (any, error) {
			return seckill.Purchase(ctx, req.(*v1.PurchaseRequest))
		})
		out, err := h(ctx, &in)
		if err != nil {
			return err
		}
		return ctx.Result(200, out)
	})
	return srv
}
