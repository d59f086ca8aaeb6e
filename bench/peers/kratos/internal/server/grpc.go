package server

import (
	"github.com/go-kratos/kratos/v2/middleware/recovery"
	"github.com/go-kratos/kratos/v2/transport/grpc"

	v1 "kaimai.bench/kratos/gen/seckill/v1"
	"kaimai.bench/kratos/internal/service"
)

// NewGRPCServer makes the listener.
func NewGRPCServer(addr string, seckill *service.SeckillService) *grpc.Server {
	srv := grpc.NewServer(
		grpc.Address(addr),
		grpc.Middleware(recovery.Recovery(), identity()),
	)
	v1.RegisterSeckillServiceServer(srv, seckill)
	return srv
}
