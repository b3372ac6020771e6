package vault

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"ledgerline/domain"
)

func benchVault(b *testing.B) *Vault {
	v := open(b, Options{Dir: b.TempDir()})
	b.Cleanup(func() { closeVault(b, v) })
	return v
}

func BenchmarkSeal(b *testing.B) {
	v := benchVault(b)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, err := v.Seal(context.Background(), "line-1", "4711-geheim-4711", "018f3a2b4c5d6e7f#/password"); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	v := benchVault(b)
	sealed, err := v.Seal(context.Background(), "line-1", "4711-geheim-4711", "018f3a2b4c5d6e7f#/password")
	if err != nil {
		b.Fatal(err)
	}
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, err := v.Open(context.Background(), sealed); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkHash(b *testing.B) {
	v := benchVault(b)
	value := []byte("123456789012")
	for b.Loop() {
		if _, err := v.Hash(context.Background(), "codeepoch-2026.11.20", "code", value); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEnsure makes durable keys from 64 callers.
func BenchmarkEnsure(b *testing.B) {
	v := benchVault(b)
	var n atomic.Int64
	b.SetParallelism(32)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, _, err := v.Ensure(context.Background(), domain.Subject(fmt.Sprint("line-", n.Add(1)))); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkLoad reads keys that are not in the cache.
func BenchmarkLoad(b *testing.B) {
	v := benchVault(b)
	subjects := manySubjects(b, v, 1000)
	for i := 0; b.Loop(); i++ {
		s := subjects[i%len(subjects)]
		v.Forget(s)
		if _, _, err := v.Ensure(context.Background(), s); err != nil {
			b.Fatal(err)
		}
	}
}
