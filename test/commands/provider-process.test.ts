import { describe, expect, it } from 'vitest'
import { serverLimits } from '../../src/commands/provider-process.ts'
import { defaultConfig, parseConfig } from '../../src/config.ts'
import { DEFAULT_ADMISSION } from '../../src/server/admission.ts'
import { DEFAULT_SERVER_LIMITS } from '../../src/server/server.ts'

describe('limits of the configuration', () => {
  it('the defaults are those of the server', () => {
    expect({ ...DEFAULT_SERVER_LIMITS, ...serverLimits(defaultConfig()) }).toEqual(DEFAULT_SERVER_LIMITS)
  })

  it.each([
    [
      'running: 40',
      { admission: { ...DEFAULT_ADMISSION, running: 40, runningPerNamespace: 30, runningBeside: 20 } },
    ],
    [
      'running: 1',
      { admission: { ...DEFAULT_ADMISSION, running: 1, runningPerNamespace: 1, runningBeside: 1 } },
    ],
    ['budget: 5s', { budgetMs: 5000 }],
    ['responseBytes: 8MiB', { maxResponseBytes: 8 * 1024 ** 2 }],
    ['inFlightBytes: 1MiB', { responseBytes: 1024 ** 2 }],
  ])('T18 %s reaches the server', (limit, expected) => {
    expect(serverLimits(parseConfig('c.yaml', `limits: {${limit}}`).config)).toMatchObject(expected)
  })
})
