/**
 * Owns the exclusive lock of one document: a file that names its owner by pid, process start time and
 * boot, so that a dead owner's lock is recognised and broken (sops B4).
 */
import { randomBytes } from 'node:crypto'
import {
  constants,
  closeSync,
  linkSync,
  openSync,
  readFileSync,
  readlinkSync,
  renameSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { WriteError } from '../write/error.ts'

/** What a lock file says about the process that holds it. */
interface Owner {
  readonly pid: number
  /** Clock ticks after boot at which the process began: tells a reused pid apart. */
  readonly started: string
  readonly boot: string
  /** Namespace in which `pid` means something. */
  readonly pidNamespace: string
  /** Different for every lock ever taken. */
  readonly nonce: string
}

export interface LockOptions {
  /** How long to wait for another owner, in milliseconds. */
  readonly waitMs: number
  /** Names the document in errors. */
  readonly what: string
}

/** Field 22 of `/proc/<pid>/stat`, or undefined when there is no such process. */
function startTicks(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // The command name may hold blanks and brackets: count fields from its last bracket.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
  } catch {
    return undefined
  }
}

function currentOwner(): Owner {
  return {
    pid: process.pid,
    started: startTicks(process.pid) ?? '',
    boot: readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim(),
    pidNamespace: readlinkSync('/proc/self/ns/pid'),
    nonce: randomBytes(16).toString('hex'),
  }
}

function parseOwner(text: string): Owner | undefined {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value !== 'object' || value === null) return undefined
    const fields = new Map(Object.entries(value))
    const pid: unknown = fields.get('pid')
    const [started, boot, pidNamespace, nonce] = ['started', 'boot', 'pidNamespace', 'nonce'].map((name) => {
      const field: unknown = fields.get(name)
      return typeof field === 'string' ? field : ''
    })
    if (typeof pid !== 'number' || !started || !boot || !pidNamespace || !nonce) return undefined
    return /^[0-9a-f]{32}$/.test(nonce) ? { pid, started, boot, pidNamespace, nonce } : undefined
  } catch {
    return undefined
  }
}

/** The owner that the lock file names; `'gone'` when there is no file, `'unreadable'` when it names none. */
function readOwner(path: string): Owner | 'gone' | 'unreadable' {
  try {
    return parseOwner(readFileSync(path, 'utf8')) ?? 'unreadable'
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 'gone'
    throw error
  }
}

/** A process of another pid namespace cannot be looked up: it counts as alive. */
function isDead(owner: Owner, self: Owner): boolean {
  if (owner.boot !== self.boot) return true
  if (owner.pidNamespace !== self.pidNamespace) return false
  return startTicks(owner.pid) !== owner.started
}

/** Creates `path` with whole content or not at all: a crash never leaves a lock without an owner. */
function tryLink(path: string, self: Owner): boolean {
  const temporary = `${path}.${self.nonce}.new`
  const { O_CREAT, O_EXCL, O_WRONLY, O_NOFOLLOW } = constants
  const fd = openSync(temporary, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW, 0o600)
  try {
    writeSync(fd, `${JSON.stringify(self)}\n`)
    linkSync(temporary, path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  } finally {
    closeSync(fd)
    unlinkSync(temporary)
  }
}

/**
 * Renames a dead owner's lock aside. Only the holder of that very lock's break lock may do so, and it
 * looks again first: nobody can rename a lock that was taken in the meantime.
 */
function breakDead(path: string, dead: Owner, self: Owner): void {
  const right = `${path}.break.${dead.nonce}`
  if (!tryAcquire(right, self)) return
  try {
    const now = readOwner(path)
    if (typeof now !== 'string' && now.nonce === dead.nonce) {
      const aside = `${path}.dead.${dead.nonce}`
      renameSync(path, aside)
      unlinkSync(aside)
    }
  } finally {
    unlinkSync(right)
  }
}

/** One attempt; breaks a dead owner's lock, so that a next attempt may succeed. */
function tryAcquire(path: string, self: Owner): boolean {
  if (tryLink(path, self)) return true
  const owner = readOwner(path)
  if (typeof owner !== 'string' && isDead(owner, self)) {
    breakDead(path, owner, self)
    return tryLink(path, self)
  }
  return false
}

function holderName(path: string): string {
  const owner = readOwner(path)
  if (owner === 'gone') return 'other processes in turn'
  return owner === 'unreadable' ? 'an unknown owner' : `process ${owner.pid}`
}

/**
 * Runs `work` while holding the lock file `path`, and removes it afterwards.
 * @throws WriteError `conflict` when another owner keeps it for longer than `waitMs`.
 */
export async function withLock<T>(path: string, options: LockOptions, work: () => Promise<T>): Promise<T> {
  const self = currentOwner()
  const deadline = performance.now() + options.waitMs
  while (!tryAcquire(path, self)) {
    if (performance.now() > deadline) {
      throw new WriteError(
        'conflict',
        `${options.what} is locked by ${holderName(path)}`,
        `Wait for it. If no such process runs on any node that uses this directory, remove the lock file ${path}.`,
      )
    }
    await sleep(5 + Math.random() * 20)
  }
  try {
    return await work()
  } finally {
    unlinkSync(path)
  }
}
