package main

import (
	"context"
	"strings"
	"time"

	pb "example.org/onward-notifier/gen/notifierv1"
	"google.golang.org/protobuf/types/known/durationpb"
)

// The file to change: which channel this plugin serves, and how it sends one notification.

const (
	name    = "example"
	version = "0.1.0"
)

var channels = []*pb.Channel{{Scheme: "example", RepeatsUnknown: true}}

// send sends one notification and says what became of it. YOUR PROVIDER'S CALL GOES HERE.
//
// delivery.Endpoint says where to, delivery.Title and delivery.Body what to show, and
// delivery.DeliveryId is the provider's idempotency key, if it has such a thing. Give ctx to what you
// call: it ends when the send has taken too long. What must not be here: retries, memory of what was
// sent. An error, or a panic, becomes UNKNOWN.
func send(ctx context.Context, delivery *pb.Delivery) (*pb.Result, error) {
	_, address, _ := strings.Cut(delivery.Endpoint, ":")
	// In place of a provider: what it answers is read off the address.
	switch {
	case strings.HasPrefix(address, "slow"):
		select {
		case <-time.After(5 * time.Second):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	case strings.HasPrefix(address, "gone"):
		return &pb.Result{Outcome: pb.Result_ENDPOINT_GONE, Detail: "404"}, nil
	case strings.HasPrefix(address, "busy"):
		wait := durationpb.New(30 * time.Second)
		return &pb.Result{Outcome: pb.Result_RETRY, RetryAfter: wait, Detail: "429"}, nil
	}
	return &pb.Result{Outcome: pb.Result_ACCEPTED, ProviderId: "example"}, nil
}
