/** Owns the volumes' file systems: a real tmpfs in a mount namespace of our own, or a faithful emulation (driver.md section 9, Target). */
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process'
import { once } from 'node:events'
import * as fs from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { errnoOf, FileError } from './go-text.ts'

/**
 * What a volume's file system is:
 * - `tmpfs`: really mounted, in a private mount namespace that ends with this process, however it ends;
 * - `emulated`: a directory that behaves like one: contents, mode and mtime change at mount and unmount;
 * - `directory`: a plain directory that is never taken for a mount and keeps its contents, for one-off mounts.
 */
export type MountKind = 'tmpfs' | 'emulated' | 'directory'

export interface Mounts {
  readonly kind: MountKind
  /** Where this process finds what the driver knows as `path`. */
  at(path: string): string
  /** Whether a file system is mounted there. Throws FileError (`stat …: no such file or directory`). */
  isMountPoint(path: string): boolean
  mount(path: string): Promise<void>
  /** Throws an Error ending in `target is busy` while something in it is open. */
  unmount(path: string): Promise<void>
  /** Unmounts everything that is still mounted. */
  close(): Promise<void>
}

/** `auto` takes a real tmpfs if this process may mount one, the emulation otherwise. */
export async function openMounts(wanted: MountKind | 'auto'): Promise<Mounts> {
  if (wanted === 'emulated' || wanted === 'directory') return directoryMounts(wanted)
  const mounts = await namespaceMounts()
  if (mounts !== undefined) return mounts
  if (wanted === 'auto') return directoryMounts('emulated')
  throw new Error(
    'cannot mount a tmpfs here: root, mount(8) and unshare(1) are needed; use mounts: "emulated"',
  )
}

/** Holds the namespace and mounts in it. It ends when its input does, and its mounts with it. */
const NAMESPACE_HOLDER = `
while IFS= read -r line; do
  operation=\${line%% *}
  target=\${line#* }
  case $operation in
    mount) out=$(mount -t tmpfs tmpfs "$target" 2>&1) ;;
    umount) out=$(umount "$target" 2>&1) ;;
    *) out=; true ;;
  esac
  code=$?
  printf '%s %s\\n' "$code" "$(printf '%s' "$out" | tr '\\n' ' ')"
done`

async function namespaceMounts(): Promise<Mounts | undefined> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return undefined
  const holder = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', NAMESPACE_HOLDER])
  const run = commands(holder)
  // Without the tool, or without the right to unshare, the holder ends before it answers.
  if ((await run('hello /')) === undefined) return undefined
  const root = `/proc/${holder.pid}/root`
  const mounted = new Set<string>()
  const at = (path: string): string => join(root, path)

  const command = async (operation: 'mount' | 'umount', path: string): Promise<void> => {
    if (path.includes('\n')) throw new Error('cannot mount at a path with a line break')
    const answer = await run(`${operation} ${path}`)
    if (answer === undefined) throw new Error(`${operation} failed: the mount namespace is gone`)
    if (answer.code !== 0)
      throw new Error(`${operation} failed: exit status ${answer.code}: ${answer.output.trim()}`)
  }
  return {
    kind: 'tmpfs',
    at,
    isMountPoint: (path) => device(at(path), path) !== device(dirname(at(path)), dirname(path)),
    async mount(path) {
      await command('mount', path)
      mounted.add(path)
    },
    async unmount(path) {
      await command('umount', path)
      mounted.delete(path)
    },
    async close() {
      for (const path of mounted) await run(`umount ${path}`)
      holder.stdin.end()
      if (holder.exitCode === null) await once(holder, 'exit')
    },
  }
}

/** Sends one line at a time to the holder; undefined if it is gone. */
function commands(
  holder: ChildProcessWithoutNullStreams,
): (line: string) => Promise<{ readonly code: number; readonly output: string } | undefined> {
  let gone = false
  const waiting: ((answer: { code: number; output: string } | undefined) => void)[] = []
  const end = (): void => {
    gone = true
    for (const settle of waiting.splice(0)) settle(undefined)
  }
  holder.on('error', end)
  holder.on('exit', end)
  holder.stdin.on('error', end)
  holder.stderr.resume()
  createInterface({ input: holder.stdout }).on('line', (line) => {
    const space = line.indexOf(' ')
    waiting.shift()?.({ code: Number(line.slice(0, space)), output: line.slice(space + 1) })
  })
  return (line) =>
    new Promise((settle) => {
      if (gone) return settle(undefined)
      waiting.push(settle)
      holder.stdin.write(`${line}\n`)
    })
}

function device(path: string, shown: string): number {
  try {
    return fs.statSync(path).dev
  } catch (error) {
    throw new FileError('stat', shown, errnoOf(error))
  }
}

function directoryMounts(kind: 'emulated' | 'directory'): Mounts {
  const mounted = new Map<string, { readonly mode: number; readonly atime: Date; readonly mtime: Date }>()
  const unmount = (path: string): void => {
    const before = mounted.get(path)
    if (before === undefined) return
    for (const name of fs.readdirSync(path)) fs.rmSync(join(path, name), { recursive: true, force: true })
    fs.chmodSync(path, before.mode & 0o7777)
    fs.utimesSync(path, before.atime, before.mtime)
    mounted.delete(path)
  }
  return {
    kind,
    at: (path) => path,
    isMountPoint(path) {
      device(path, path)
      return mounted.has(path)
    },
    async mount(path) {
      if (kind === 'directory') return
      const { mode, atime, mtime } = fs.statSync(path)
      mounted.set(path, { mode, atime, mtime })
      fs.chmodSync(path, 0o1777)
      const now = new Date()
      fs.utimesSync(path, now, now)
    },
    async unmount(path) {
      unmount(path)
    },
    async close() {
      for (const path of mounted.keys()) unmount(path)
    },
  }
}
