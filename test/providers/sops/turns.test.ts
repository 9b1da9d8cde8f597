import { describe, expect, it } from 'vitest'
import { createTurns } from '../../../src/providers/sops/turns.ts'

const LARGE = 512 * 1024

describe('T14 turns', () => {
  it('T14 large documents are worked on one at a time, in order; small ones never wait', async () => {
    const turns = createTurns()
    const order: string[] = []
    const enter = async (name: string, bytes: number): Promise<void> => {
      await turns(bytes).enter()
      order.push(name)
    }
    await enter('first', LARGE)
    const waiting = [enter('second', LARGE), enter('third', LARGE)]
    await enter('small', 100)
    expect(order).toEqual(['first', 'small'])
    turns(LARGE).leave()
    await waiting[0]
    expect(order).toEqual(['first', 'small', 'second'])
    turns(LARGE).leave()
    await waiting[1]
    turns(LARGE).leave()
    await enter('fourth', LARGE)
    expect(order).toEqual(['first', 'small', 'second', 'third', 'fourth'])
  })

  it('T14 whoever enters as another leaves does not slip in between', async () => {
    const turns = createTurns()
    let inside = 0
    let most = 0
    await Promise.all(
      Array.from({ length: 20 }, async (_, index) => {
        for (let round = 0; round < 5; round += 1) {
          const turn = turns(LARGE)
          await turn.enter()
          inside += 1
          most = Math.max(most, inside)
          for (let wait = 0; wait < index % 3; wait += 1) await Promise.resolve()
          inside -= 1
          turn.leave()
        }
      }),
    )
    expect({ most, inside }).toEqual({ most: 1, inside: 0 })
  })
})
