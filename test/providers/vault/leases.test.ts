/** The arithmetic of lives: renewal times, refresh points, ends. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  ended,
  expiringSpan,
  final,
  isAlive,
  margin,
  mustRefresh,
  postponed,
  renewAt,
  renewed,
  span,
  usualGap,
} from '../../../src/providers/vault/leases.ts'

const NOW = 1_000_000
const GAP = 75_000

describe('vault 9 the life of a lease', () => {
  it('is renewed at two thirds when that leaves a poll its margin', () => {
    expect(renewAt(span(NOW, 3600, true), GAP)).toBe(NOW + 2_400_000)
    // 300 s with a margin of 180 s: a renewal that falls short must still leave 180 s.
    expect(renewAt(span(NOW, 300, true), GAP)).toBe(NOW + 120_000)
    expect(renewAt(span(NOW, 60, true), GAP)).toBe(NOW + 6_000)
  })

  it('cannot be renewed when it is not renewable, final or without an end', () => {
    expect(renewAt(span(NOW, 3600, false), GAP)).toBeUndefined()
    expect(renewAt(final(span(NOW, 3600, true)), GAP)).toBeUndefined()
    expect(renewAt(span(NOW, 0, true), GAP)).toBeUndefined()
  })

  it('keeps its margin of a tenth, or two polls and 30 s', () => {
    expect(margin(span(NOW, 3600, true), GAP)).toBe(360_000)
    expect(margin(span(NOW, 600, true), GAP)).toBe(180_000)
  })

  it('needs no new secret while it is renewed in full, and one within the margin once it is final', () => {
    const life = span(NOW, 3600, true)
    expect(mustRefresh(life, NOW + 3_500_000, GAP)).toBe(false)
    expect(mustRefresh(final(life), NOW + 3_200_000, GAP)).toBe(false)
    expect(mustRefresh(final(life), NOW + 3_240_000, GAP)).toBe(true)
  })

  it('is fetched at each poll when it is shorter than the margin', () => {
    expect(mustRefresh(span(NOW, 120, true), NOW, GAP)).toBe(true)
    expect(mustRefresh(span(NOW, 200, true), NOW, GAP)).toBe(false)
  })

  it('ends with its token', () => {
    const life = span(NOW, 86_400, true)
    const tokenEnd = NOW + 3_600_000
    expect(mustRefresh(span(NOW, 3600, true), NOW + 3_000_000, GAP, tokenEnd)).toBe(false)
    expect(mustRefresh(life, tokenEnd - 360_001, GAP, tokenEnd)).toBe(false)
    expect(mustRefresh(life, tokenEnd - 360_000, GAP, tokenEnd)).toBe(true)
    expect(isAlive(life, tokenEnd, tokenEnd)).toBe(false)
  })

  it('becomes final when less than nine tenths were granted', () => {
    expect(renewed(span(NOW, 3600, true), NOW + 5, 3240)).toMatchObject({
      renewable: true,
      expiresAt: NOW + 5 + 3_240_000,
    })
    expect(renewed(span(NOW, 3600, true), NOW + 5, 3239)).toMatchObject({
      renewable: false,
      expiresAt: NOW + 5 + 3_239_000,
    })
  })

  it('the usual gap between polls shrinks at once and grows fourfold at most', () => {
    expect(usualGap(75_000, 60_000)).toBe(60_000)
    expect(usualGap(75_000, 120_000)).toBe(120_000)
    expect(usualGap(75_000, 86_400_000)).toBe(300_000)
  })

  it('what is issued only again is issued again at two thirds', () => {
    const life = expiringSpan(NOW, NOW + 3_000_000)
    expect(mustRefresh(life, NOW + 1_999_999, GAP)).toBe(false)
    expect(mustRefresh(life, NOW + 2_000_000, GAP)).toBe(true)
    expect(isAlive(life, NOW + 2_999_999)).toBe(true)
  })

  it('property: a renewal is due before the end and after now, and a refresh is due before the end', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 10_000_000 }),
        fc.integer({ min: 0, max: 3_600_000 }),
        fc.double({ min: -1, max: 1, noNaN: true }),
        (seconds, gap, spread) => {
          const life = span(NOW, seconds, true)
          const at = renewAt(life, gap, spread) ?? Number.NaN
          expect(at).toBeGreaterThanOrEqual(NOW)
          expect(at).toBeLessThan(life.expiresAt)
          expect(mustRefresh(final(life), life.expiresAt, gap)).toBe(true)
          const later = postponed(life, at)
          expect(renewAt(later, gap, spread)).toBeGreaterThan(at)
          expect(isAlive(ended(life, at), at)).toBe(false)
        },
      ),
    )
  })
})
