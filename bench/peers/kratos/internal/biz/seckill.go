package biz

import (
	"context"
	"fmt"
	"strings"

	"github.com/go-kratos/kratos/v2/errors"
)

// Wish is one user's wish for units of an item.
type Wish struct {
	ItemID    int64
	UserID    string
	Quantity  int32
	RequestID string
}

// Outcome is what admission said: a code, and the purchase's id where it was admitted.
type Outcome struct {
	Code      string
	SeckillID string
}

// AdmissionRepo admits purchases.
type AdmissionRepo interface {
	// Epoch of the item's sale, from memory or, with refresh, as it is now.
	Epoch(ctx context.Context, itemID int64, refresh bool) (string, error)
	// Admit answers with the script's outcome; ok is false where the epoch is another.
	Admit(ctx context.Context, epoch string, wish *Wish) (outcome string, ok bool, err error)
}

// SeckillUsecase sells.
type SeckillUsecase struct {
	repo AdmissionRepo
}

// NewSeckillUsecase makes one.
func NewSeckillUsecase(repo AdmissionRepo) *SeckillUsecase {
	return &SeckillUsecase{repo: repo}
}

// Purchase admits a wish, once more where the sale was opened anew meanwhile.
func (uc *SeckillUsecase) Purchase(ctx context.Context, wish *Wish) (*Outcome, error) {
	for _, refresh := range []bool{false, true} {
		epoch, err := uc.repo.Epoch(ctx, wish.ItemID, refresh)
		if err != nil {
			return nil, err
		}
		outcome, ok, err := uc.repo.Admit(ctx, epoch, wish)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		if id, queued := strings.CutPrefix(outcome, "QUEUED "); queued {
			return &Outcome{Code: "QUEUED", SeckillID: fmt.Sprintf("%d-%s", wish.ItemID, id)}, nil
		}
		if outcome == "BACKLOG_FULL" {
			return nil, errors.ServiceUnavailable("SALE_BACKLOG_FULL", "too many purchases wait to become orders")
		}
		return &Outcome{Code: outcome}, nil
	}
	return nil, errors.ServiceUnavailable("SALE_UNAVAILABLE", "the sale is being prepared")
}
