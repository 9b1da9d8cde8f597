#!/usr/bin/env node
/** Starts the command line: the shipped bundle where there is one, else the sources. */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const bundle = new URL('../dist/cli.js', import.meta.url)
const source = new URL('../src/cli.ts', import.meta.url)
const entry = existsSync(bundle) ? bundle : source
const [major, minor] = process.versions.node.split('.').map(Number)
if (major > 22 || (major === 22 && minor >= 18)) {
  await import(entry.href)
} else {
  const own = fileURLToPath(new URL(`../node_modules/node-linux-${process.arch}/bin/node`, import.meta.url))
  if (!existsSync(own)) {
    process.stderr.write(`keyferry: needs Node 22.18 or newer, this is ${process.versions.node}\n`)
    process.exit(2)
  }
  const result = spawnSync(own, [fileURLToPath(entry), ...process.argv.slice(2)], { stdio: 'inherit' })
  process.exit(result.status ?? 1)
}
