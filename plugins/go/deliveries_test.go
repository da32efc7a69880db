package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "example.org/onward-notifier/gen/notifierv1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// provider counts what it is given, and may be held until open is closed.
type provider struct {
	mu   sync.Mutex
	sent map[string]int
	open chan struct{}
	fail bool
}

func (p *provider) send(_ context.Context, delivery *pb.Delivery) (*pb.Result, error) {
	p.mu.Lock()
	p.sent[delivery.DeliveryId]++
	p.mu.Unlock()
	if p.open != nil {
		<-p.open
	}
	if p.fail {
		return nil, errors.New("the title was: secret")
	}
	return &pb.Result{Outcome: pb.Result_ACCEPTED}, nil
}

func (p *provider) count(id string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent[id]
}

func newDeliveries(p *provider, limits Limits) *Deliveries {
	p.sent = map[string]int{}
	return NewDeliveries(channels, p.send, limits, nil)
}

func delivery(id string) *pb.Delivery {
	return &pb.Delivery{
		DeliveryId: id, Endpoint: "example:" + id, ExpiresAt: timestamppb.New(time.Now().Add(time.Hour)),
	}
}

func outcomes(results []*pb.Result) string {
	said := ""
	for _, result := range results {
		said += fmt.Sprintf("%s %s; ", result.DeliveryId, result.Outcome)
	}
	return said
}

func expect(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func within(t *testing.T, wait time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	t.Cleanup(cancel)
	return ctx
}

func TestEveryDeliveryIsAnsweredInOrder(t *testing.T) {
	d := newDeliveries(&provider{}, defaultLimits)
	got := d.Answer(context.Background(), []*pb.Delivery{delivery("a"), delivery("b"), delivery("c")})
	expect(t, outcomes(got), "a ACCEPTED; b ACCEPTED; c ACCEPTED; ")
}

func TestWhatHasExpiredOrIsForAnotherChannelIsNotSent(t *testing.T) {
	p := &provider{}
	d := newDeliveries(p, defaultLimits)
	old, strange, nameless := delivery("old"), delivery("strange"), delivery("")
	old.ExpiresAt = timestamppb.New(time.Now().Add(-time.Second))
	strange.Endpoint = "pigeon:1"
	got := d.Answer(context.Background(), []*pb.Delivery{old, strange, nameless})
	expect(t, outcomes(got), "old EXPIRED; strange REJECTED_MESSAGE;  REJECTED_MESSAGE; ")
	if len(p.sent) != 0 {
		t.Errorf("sent: %v", p.sent)
	}
}

func TestARepeatIsToldWhatBecameOfTheFirst(t *testing.T) {
	p := &provider{}
	d := newDeliveries(p, defaultLimits)
	for range 2 {
		got := d.Answer(context.Background(), []*pb.Delivery{delivery("a"), delivery("a")})
		expect(t, outcomes(got), "a ACCEPTED; a ACCEPTED; ")
	}
	if p.count("a") != 1 {
		t.Errorf("sent %d times", p.count("a"))
	}
}

func TestARepeatOfWhatIsUnderWayWaitsForIt(t *testing.T) {
	p := &provider{open: make(chan struct{})}
	d := newDeliveries(p, defaultLimits)
	var answered atomic.Int32
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			got := d.Answer(context.Background(), []*pb.Delivery{delivery("a")})
			expect(t, outcomes(got), "a ACCEPTED; ")
			answered.Add(1)
		})
	}
	for p.count("a") == 0 {
		time.Sleep(time.Millisecond)
	}
	if answered.Load() != 0 {
		t.Error("answered before it was sent")
	}
	close(p.open)
	both.Wait()
	if p.count("a") != 1 {
		t.Errorf("sent %d times", p.count("a"))
	}
}

func TestAtTheDeadlineWhatHasBegunIsUnknownAndTheRestNeverBegins(t *testing.T) {
	p := &provider{open: make(chan struct{})}
	limits := defaultLimits
	limits.SendsMax = 1
	d := newDeliveries(p, limits)
	batch := []*pb.Delivery{delivery("a"), delivery("b")}
	got := d.Answer(within(t, 50*time.Millisecond), batch)
	expect(t, outcomes(got), "a UNKNOWN; b RETRY; ")
	close(p.open)
	d.Finish(time.Minute)
	if p.count("a") != 1 || p.count("b") != 0 {
		t.Errorf("sent: %v", p.sent)
	}
	got = d.Answer(context.Background(), batch)
	expect(t, outcomes(got), "a ACCEPTED; b ACCEPTED; ")
	if p.count("a") != 1 {
		t.Error("what ran on to its end was sent again")
	}
}

func TestAnErrorIsUnknownAndQuotesNothing(t *testing.T) {
	d := newDeliveries(&provider{fail: true}, defaultLimits)
	got := d.Answer(context.Background(), []*pb.Delivery{delivery("a")})
	expect(t, outcomes(got), "a UNKNOWN; ")
	expect(t, got[0].Detail, "send failed")
}

func TestAPanicCostsOneDelivery(t *testing.T) {
	panics := func(_ context.Context, delivery *pb.Delivery) (*pb.Result, error) {
		if delivery.DeliveryId == "a" {
			panic("at a")
		}
		return &pb.Result{Outcome: pb.Result_ACCEPTED}, nil
	}
	d := NewDeliveries(channels, panics, defaultLimits, nil)
	got := d.Answer(context.Background(), []*pb.Delivery{delivery("a"), delivery("b")})
	expect(t, outcomes(got), "a UNKNOWN; b ACCEPTED; ")
}

func TestTheMemoryOfWhatWasSentIsBounded(t *testing.T) {
	p := &provider{}
	limits := defaultLimits
	limits.RememberedMax = 2
	d := newDeliveries(p, limits)
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		d.Answer(context.Background(), []*pb.Delivery{delivery(id)})
	}
	if len(d.remembered) != 2 || len(d.ids) != 2 || len(d.underWay) != 0 {
		t.Errorf("%d remembered, %d under way", len(d.remembered), len(d.underWay))
	}
	d.Answer(context.Background(), []*pb.Delivery{delivery("d"), delivery("e")})
	if p.count("d") != 1 || p.count("e") != 1 {
		t.Error("the newest were forgotten")
	}
}

func TestBeyondTheBoundDeliveriesAreRetried(t *testing.T) {
	limits := defaultLimits
	limits.WaitingMax = 1
	d := newDeliveries(&provider{}, limits)
	got := d.Answer(context.Background(), []*pb.Delivery{delivery("a"), delivery("b")})
	expect(t, outcomes(got), "a ACCEPTED; b RETRY; ")
}

func BenchmarkAnswer(b *testing.B) {
	d := NewDeliveries(channels, send, defaultLimits, nil)
	for number := 0; b.Loop(); number++ {
		batch := make([]*pb.Delivery, 1_000)
		for i := range batch {
			batch[i] = delivery(fmt.Sprint(number, "-", i))
		}
		d.Answer(context.Background(), batch)
	}
	b.ReportMetric(float64(b.N)*1_000/b.Elapsed().Seconds(), "deliveries/s")
}
