package service

import (
	"context"

	"github.com/go-kratos/kratos/v2/errors"

	v1 "kaimai.bench/kratos/gen/seckill/v1"
	"kaimai.bench/kratos/internal/biz"
)

type userKey struct{}

// WithUser is the context of a call that acts for a user.
func WithUser(ctx context.Context, user string) context.Context {
	return context.WithValue(ctx, userKey{}, user)
}

// SeckillService translates.
type SeckillService struct {
	v1.UnimplementedSeckillServiceServer
	uc *biz.SeckillUsecase
}

// NewSeckillService makes one.
func NewSeckillService(uc *biz.SeckillUsecase) *SeckillService {
	return &SeckillService{uc: uc}
}

var messages = map[v1.PurchaseReply_Code]string{
	v1.PurchaseReply_QUEUED:        "Purchase accepted; your order is being created",
	v1.PurchaseReply_SOLD_OUT:      "Sold out",
	v1.PurchaseReply_NOT_STARTED:   "The sale has not started",
	v1.PurchaseReply_ENDED:         "The sale has ended",
	v1.PurchaseReply_LIMIT_REACHED: "You have reached your limit in this sale",
}

// Purchase takes units of a running sale.
func (s *SeckillService) Purchase(ctx context.Context, req *v1.PurchaseRequest) (*v1.PurchaseReply, error) {
	user, ok := ctx.Value(userKey{}).(string)
	if !ok {
		return nil, errors.Unauthorized("UNAUTHENTICATED", "this call needs an identity")
	}
	quantity := int32(1)
	if req.Quantity != nil {
		quantity = *req.Quantity
	}
	if req.ItemId <= 0 || quantity < 1 || quantity > 10000 || len(req.RequestId) > 64 {
		return nil, errors.BadRequest("INVALID_ARGUMENT", "item_id, quantity or request_id is out of range")
	}
	outcome, err := s.uc.Purchase(ctx, &biz.Wish{
		ItemID:    req.ItemId,
		UserID:    user,
		Quantity:  quantity,
		RequestID: req.RequestId,
	})
	if err != nil {
		return nil, err
	}
	code := v1.PurchaseReply_Code(v1.PurchaseReply_Code_value[outcome.Code])
	reply := &v1.PurchaseReply{Code: code, Message: messages[code]}
	if outcome.SeckillID != "" {
		reply.Data = &v1.PurchaseReply_Data{SeckillId: outcome.SeckillID}
	}
	return reply, nil
}
