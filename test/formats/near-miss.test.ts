import { describe, expect, it } from 'vitest'
import { nearMiss } from '../../src/formats/near-miss.ts'

describe('the word that was meant', () => {
  it.each([
    ['vualt', 'vault'],
    ['opnbao', 'openbao'],
    ['Objetcs', 'objects'],
    ['awz', 'aws'],
  ])('of %s is %s', (word, meant) => {
    expect(nearMiss(word, ['aws', 'gke', 'objects', 'openbao', 'vault'])).toBe(meant)
  })

  it('is none for another word, nor for a short one after two edits', () => {
    expect(nearMiss('hashicorp', ['aws', 'vault'])).toBeUndefined()
    expect(nearMiss('gcs', ['aws'])).toBeUndefined()
  })

  it('is not looked for when the word is longer than any of ours', () => {
    expect(nearMiss('a'.repeat(100_000), ['a'.repeat(32)])).toBeUndefined()
  })
})
