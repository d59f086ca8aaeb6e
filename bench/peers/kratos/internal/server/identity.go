package server

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-kratos/kratos/v2/errors"
	"github.com/go-kratos/kratos/v2/middleware"
	"github.com/go-kratos/kratos/v2/transport"

	"kaimai.bench/kratos/internal/service"
)

var uuid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// identity takes the user from the header of a trusted caller: a UUID, or a number that maps to one.
func identity() middleware.Middleware {
	return func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, req any) (any, error) {
			tr, ok := transport.FromServerContext(ctx)
			if !ok {
				return nil, errors.Unauthorized("UNAUTHENTICATED", "this call needs an identity")
			}
			user, err := formatUserID(tr.RequestHeader().Get("x-user-id"))
			if err != nil {
				return nil, err
			}
			return next(service.WithUser(ctx, user), req)
		}
	}
}

func formatUserID(given string) (string, error) {
	if given == "" {
		return "", errors.Unauthorized("UNAUTHENTICATED", "this call needs an identity")
	}
	if n, err := strconv.ParseUint(given, 10, 63); err == nil {
		hex := fmt.Sprintf("%016x", n)
		return "00000000-0000-800" + hex[:1] + "-8" + hex[1:4] + "-" + hex[4:], nil
	}
	if lower := strings.ToLower(given); uuid.MatchString(lower) {
		return lower, nil
	}
	return "", errors.BadRequest("INVALID_ARGUMENT", "x-user-id must be a UUID or a number")
}
