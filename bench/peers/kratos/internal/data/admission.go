package data

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/go-kratos/kratos/v2/errors"
	"github.com/redis/go-redis/v9"

	"kaimai.bench/kratos/internal/biz"
)

type admissionRepo struct {
	data  *Data
	sales sync.Map // item id -> *sale
}

type sale struct {
	epoch string
	keys  []string
}

// NewAdmissionRepo makes one.
func NewAdmissionRepo(data *Data) biz.AdmissionRepo {
	return &admissionRepo{data: data}
}

func (r *admissionRepo) Epoch(ctx context.Context, itemID int64, refresh bool) (string, error) {
	if known, ok := r.sales.Load(itemID); ok && !refresh {
		return known.(*sale).epoch, nil
	}
	prefix := fmt.Sprintf("seckill:%d:", itemID)
	epoch, err := r.data.rdb.HGet(ctx, prefix+"meta", "epoch").Result()
	if err == redis.Nil {
		return "", errors.NotFound("SALE_NOT_FOUND", "the item has no sale")
	}
	if err != nil {
		return "", err
	}
	r.sales.Store(itemID, &sale{epoch: epoch, keys: []string{
		prefix + "meta", prefix + "stock", prefix + "req", prefix + "buyers", prefix + "vip",
		fmt.Sprintf("stream:seckill:%d", itemID), prefix + "seen:0", prefix + "seen:1",
	}})
	return epoch, nil
}

func (r *admissionRepo) Admit(ctx context.Context, epoch string, wish *biz.Wish) (string, bool, error) {
	known, _ := r.sales.Load(wish.ItemID)
	reply, err := r.data.admit.Run(ctx, r.data.rdb, known.(*sale).keys,
		epoch, wish.UserID, strconv.Itoa(int(wish.Quantity)), wish.RequestID, "").Slice()
	if err != nil {
		return "", false, err
	}
	if reply[0] != "OK" {
		return "", false, nil
	}
	outcome, ok := reply[3].(string)
	if !ok {
		return "", false, fmt.Errorf("admit answers %v", reply)
	}
	return outcome, true, nil
}
