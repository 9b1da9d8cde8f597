/** The level of the running process's log, and its change. */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { createLogger } from '../../src/telemetry/pino-log.ts'

it('a changed level counts for loggers that were made before, too', () => {
  const directory = mkdtempSync(join(tmpdir(), 'keyferry-log-'))
  const file = join(directory, 'log')
  const fd = openSync(file, 'w')
  onTestFinished(() => {
    closeSync(fd)
    rmSync(directory, { recursive: true })
  })
  const log = createLogger('warn', fd)
  const child = log.with({ backend: 'sops' })
  child.info('unseen')
  log.error('first')
  log.setLevel('debug')
  child.debug('second', { n: 1 })
  log.setLevel('error')
  child.warn('unseen')
  log.warn('unseen')
  const lines = readFileSync(file, 'utf8').trim().split('\n')
  expect(lines.map((line): unknown => JSON.parse(line))).toMatchObject([
    { level: 'error', msg: 'first' },
    { level: 'debug', msg: 'second', backend: 'sops', n: 1 },
  ])
})
