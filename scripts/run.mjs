#!/usr/bin/env node
/**
 * Runs one of the project's tasks on a machine that has nothing but Node and npm: installs what the
 * lock file says when that has changed, builds when a source is newer than the build, and uses the
 * Node 24 of the lock file where the machine's own Node is too old to run TypeScript sources.
 * Plain JavaScript, because it must run before anything is installed.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const bin = join(root, 'node_modules', '.bin')
const stampFile = join(root, 'node_modules', '.keyferry-stamp')

/** Task name → commands, each an argument list; `node` is a Node that runs TypeScript. */
const tasks = {
  start: [['node', 'bin/keyferry.mjs', 'quickstart']],
  example: [['node', 'scripts/two-stores.ts']],
  test: [['node', vitest(), 'run']],
  check: [
    ['oxlint', '--type-aware', '--deny-warnings'],
    ['oxfmt', '--check'],
    ['tsc', '--noEmit'],
    ['node', vitest(), 'run', '--coverage'],
  ],
  build: [],
  bench: [['node', 'bench/run.ts']],
  format: [['oxfmt']],
  'test:driver': [
    ['bash', 'test/peers/install', 'driver', 'sops', 'age', 'gnupg'],
    ['node', vitest(), 'run', '--config', 'vitest.peers.config.ts', '--dir', 'test/driver'],
  ],
  'test:nodes': [
    ['bash', 'test/peers/install', 'node'],
    ['.peers/bin/node-22', vitest(), 'run'],
    ['.peers/bin/node-26', vitest(), 'run'],
  ],
  'test:vault-ce': [
    ['bash', 'test/peers/install', 'vault-ce'],
    ['node', vitest(), 'run', '--config', 'vitest.peers.config.ts', '--dir', 'test/on-demand'],
  ],
  'test:emulators': [
    ['bash', 'test/peers/install'],
    ['node', vitest(), 'run', '--config', 'vitest.peers.config.ts', '--dir', 'test/emulators'],
  ],
}

/** Tasks that run the shipped bundle rather than the sources. */
const needsBuild = new Set([
  'start',
  'example',
  'test',
  'check',
  'build',
  'bench',
  'test:driver',
  'test:nodes',
  'test:emulators',
])

function vitest() {
  return join('node_modules', 'vitest', 'vitest.mjs')
}

function fail(message) {
  process.stderr.write(`keyferry: ${message}\n`)
  process.exit(1)
}

function supported(version) {
  const [major, minor] = version.split('.').map(Number)
  return major > 22 || (major === 22 && minor >= 18)
}

/** The running Node when it is new enough, else the one from the lock file. */
function nodeBinary() {
  if (supported(process.versions.node)) return process.execPath
  const own = join(root, 'node_modules', `node-linux-${process.arch}`, 'bin', 'node')
  if (existsSync(own)) return own
  return fail(
    `Node ${process.versions.node} is too old and the lock file has no Node 24 for ${process.platform}-${process.arch}. Install Node 24 or newer.`,
  )
}

function install() {
  const lock = readFileSync(join(root, 'package-lock.json'))
  const stamp = createHash('sha256').update(lock).digest('hex')
  if (existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp) return
  process.stdout.write('keyferry: installing packages from the lock file (about 20 s) ...\n')
  const result = spawnSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: root,
    stdio: 'inherit',
  })
  if (result.status !== 0) fail('npm ci failed; the lines above say why. Nothing else was done.')
  mkdirSync(dirname(stampFile), { recursive: true })
  writeFileSync(stampFile, stamp)
}

function newest(folder) {
  let latest = 0
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    latest = Math.max(latest, entry.isDirectory() ? newest(path) : statSync(path).mtimeMs)
  }
  return latest
}

function build(node) {
  const built = join(root, 'dist', 'cli.js')
  const sources = Math.max(
    newest(join(root, 'src')),
    newest(join(root, 'proto')),
    statSync(join(root, 'package-lock.json')).mtimeMs,
  )
  if (existsSync(built) && statSync(built).mtimeMs > sources) return
  run([node, 'scripts/build.ts'], node)
}

function run([command, ...args], node) {
  const executable = command === 'node' ? node : existsSync(join(bin, command)) ? join(bin, command) : command
  const result = spawnSync(executable, args, {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, PATH: `${dirname(node)}:${bin}:${process.env.PATH}` },
  })
  if (result.signal) fail(`${command} was ended by ${result.signal}`)
  if (result.status !== 0) process.exit(result.status ?? 1)
}

const [task, ...rest] = process.argv.slice(2)
if (!task || !Object.hasOwn(tasks, task))
  fail(`unknown task ${task ?? '(none)'}; one of: ${Object.keys(tasks).join(', ')}`)
install()
const node = nodeBinary()
if (needsBuild.has(task)) build(node)
const commands = tasks[task]
commands.forEach((command, index) =>
  run(index === commands.length - 1 ? [...command, ...rest] : command, node),
)
