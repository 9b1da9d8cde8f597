/** Prints the licence texts of the packages whose code may be in the bundle: what an image must carry with it. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const root = join(import.meta.dirname, '..')
const LICENCE_FILE = /^(licen[cs]e|notice|copying)([.-].*)?$/i

interface Locked {
  readonly version?: string
  readonly license?: string
  readonly dev?: boolean
  readonly optional?: boolean
  readonly peer?: boolean
}

const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
  packages: Record<string, Locked>
}

for (const [path, { version, license, dev, optional, peer }] of Object.entries(lock.packages)) {
  const folder = join(root, path)
  if (path === '' || dev || optional || peer || !existsSync(folder)) continue
  const texts = readdirSync(folder)
    .filter((name) => LICENCE_FILE.test(name))
    .sort()
    .map((name) => readFileSync(join(folder, name), 'utf8').trim())
  const name = path.split('node_modules/').at(-1)
  process.stdout.write(`${[`## ${name} ${version} (${license})`, ...texts].join('\n\n')}\n\n`)
}
