package main

// This file owns what all fuzz targets have in common: what is tried around each input that the fuzzer comes up with.

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
)

// around makes a fuzz target of target, a function as testing.F.Fuzz takes it, that runs it with each input and with $IPCD_FUZZ_AROUND inputs
// that differ a little from it: one of the fuzzer's own costs a quarter of a millisecond, most of ours some microseconds. They follow
// from the input, so that what has failed once fails again.
func around[F any](target F) F {
	f := reflect.ValueOf(target)
	more, _ := strconv.Atoi(os.Getenv("IPCD_FUZZ_AROUND"))
	if more == 0 {
		return target
	}
	return reflect.MakeFunc(f.Type(), func(in []reflect.Value) []reflect.Value {
		f.Call(in)
		seed := fnv.New64a()
		for _, v := range in[1:] {
			fmt.Fprintf(seed, "%v\x00", v)
		}
		r, args := rand.New(rand.NewPCG(seed.Sum64(), 0)), make([]reflect.Value, len(in))
		for range more {
			copy(args, in)
			for changed := false; !changed; {
				for i, v := range in[1:] {
					if r.IntN(2) == 0 {
						args[1+i], changed = vary(r, v), true
					}
				}
			}
			f.Call(args)
		}
		return nil
	}).Interface().(F)
}

// vary returns a value that differs a little from v, as a rule.
func vary(r *rand.Rand, v reflect.Value) reflect.Value {
	switch {
	case v.Kind() == reflect.String:
		return reflect.ValueOf(string(varyBytes(r, []byte(v.String()))))
	case v.Kind() == reflect.Slice:
		return reflect.ValueOf(varyBytes(r, slices.Clone(v.Bytes())))
	case v.Kind() == reflect.Bool:
		return reflect.ValueOf(r.IntN(2) == 0)
	}
	other := reflect.New(v.Type()).Elem()
	if other.CanInt() {
		other.SetInt(r.Int64() >> r.IntN(64))
	} else {
		other.SetUint(r.Uint64() >> r.IntN(64))
	}
	return other
}

// telling are pieces at which one parser or another decides something.
var telling = []string{"\x00", "\xff", "\x7f", "\n", "\r\n", " ", "\t", `"`, `\`, `\u`, "{", "}", "[", "]", ",", ":", ".", "-", "+", "*", ">", "$", "%", "#", "=", ";", "/", "0", "1", "-1", "1e9", "null", "true", "\xf8\xff\xff\xff\xff\xff\xff\xff", "\ufeff", "é", "\xc3"}

// varyBytes changes b in one place or a few.
func varyBytes(r *rand.Rand, b []byte) []byte {
	for range 1 + r.IntN(3) {
		from := r.IntN(len(b) + 1)
		to := from + r.IntN(min(len(b)-from, 16)+1)
		switch r.IntN(6) {
		case 0:
			b = slices.Insert(b, from, []byte(telling[r.IntN(len(telling))])...)
		case 1:
			b = slices.Replace(b, from, to, []byte(telling[r.IntN(len(telling))])...)
		case 2:
			b = slices.Delete(b, from, to)
		case 3:
			b = slices.Insert(b, r.IntN(len(b)+1), slices.Clone(b[from:to])...)
		case 4:
			b = slices.Insert(b, from, byte(r.IntN(256)))
		case 5:
			if from < len(b) {
				b[from] ^= 1 << r.IntN(8)
			}
		}
	}
	return b
}
