/** `npm run example`: two stores in one volume by `keyferry mount`, and a revocation, as a reader sees it. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { expect, it } from 'vitest'

it('mounts the example out of two stores, and takes away what is deleted in one of them', async () => {
  const child = spawn(process.execPath, ['scripts/two-stores.ts'], { stdio: ['ignore', 'pipe', 'pipe'] })
  const [[code], output, errors] = await Promise.all([
    once(child, 'close'),
    text(child.stdout),
    text(child.stderr),
  ])
  expect({ code, errors }).toEqual({ code: 0, errors: '' })
  const [, mounted = '', again = ''] = output.split(/^\d\. /m).slice(1)
  const files = (part: string): string[] =>
    part.match(/\S+$/gm)?.filter((name) => /^[a-z/]+\.?[a-z/]*$/.test(name)) ?? []
  const kept = ['app.env', 'config.json', 'db/password', 'db/url', 'token.previous']
  expect(files(mounted)).toEqual(expect.arrayContaining([...kept, 'tls/tls.crt', 'tls/tls.key']))
  expect(files(again)).toEqual(expect.arrayContaining(kept))
  expect(again).not.toContain('tls/')
  expect(output).not.toMatch(/correct horse|-- key --|first|second/)
}, 60_000)
