package main

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestAgainPausesLongerEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var tries []time.Duration
		done, err := again(t.Context(), 10*time.Millisecond, 50*time.Millisecond, func() (bool, error) {
			tries = append(tries, time.Since(began))
			return len(tries) == 6, nil
		})
		want := []time.Duration{0, 10 * time.Millisecond, 30 * time.Millisecond, 70 * time.Millisecond, 120 * time.Millisecond, 170 * time.Millisecond}
		if !done || err != nil || !slices.Equal(tries, want) {
			t.Errorf("again = %t, %v after tries at %v; want true, nil and %v", done, err, tries, want)
		}
	})
}

func TestAgainEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began, why := time.Now(), errors.New("not yet")
		done, err := again(ctx, time.Second, 40*time.Second, func() (bool, error) { return false, why })
		if done || err != why || time.Since(began) != time.Minute {
			t.Errorf("again = %t, %v after %v; want false, the error of the last try, and a minute", done, err, time.Since(began))
		}
		tries := 0
		done, err = again(ctx, time.Second, time.Second, func() (bool, error) { tries++; return false, why })
		if done || err != why || tries != 1 {
			t.Errorf("again = %t, %v after %d tries where ctx has ended; want one", done, err, tries)
		}
		end := errors.New("for good")
		if done, err := again(ctx, time.Second, time.Second, func() (bool, error) { return true, end }); !done || err != end {
			t.Errorf("again = %t, %v; want what the try that was done returned", done, err)
		}
	})
}
