/**
 * Owns `keyferry quickstart`: the whole way from an encrypted document to a pod's volume, on this
 * machine, with the real commands and the real server. Every claim it prints is checked first; the first
 * one that does not hold ends it with exit code 1.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { appendFileSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { startKubelet } from '../driver/kubelet.ts'
import { startNode, type TestNode } from '../driver/node.ts'
import type { VolumeRequest } from '../driver/volume-request.ts'

const SPC = { name: 'web-secrets', provider: 'sops' } as const
const OBJECTS = `- { objectName: database-password, path: /database-password, filePermission: "0400" }
- { objectName: api-token, path: /api-token }
- { objectName: session-key, path: /session-key }
`
const NAMES = ['database-password', 'api-token', 'session-key']

const SIGNALS = ['SIGINT', 'SIGTERM'] as const
/** Exit code of a command that was interrupted. */
const INTERRUPTED = 130

/** Text that is plain in a log and marked on a terminal. */
const colour = process.stdout.isTTY && process.env['NO_COLOR'] === undefined
const bold = (text: string): string => (colour ? `\u001b[1m${text}\u001b[0m` : text)
const dim = (text: string): string => (colour ? `\u001b[2m${text}\u001b[0m` : text)

function say(text = ''): void {
  process.stdout.write(`${text}\n`)
}

/** A claim that the quickstart makes; a false one ends it. */
function holds(claim: boolean, text: string): void {
  if (!claim) throw new Error(`the quickstart's own check failed: ${text}`)
  say(`   ✓ ${text}`)
}

/** Counts the steps and shows the time since the start. */
function stepper(): (title: string) => void {
  const start = performance.now()
  let step = 0
  return (title) => {
    step += 1
    const seconds = ((performance.now() - start) / 1000).toFixed(1)
    say(`\n${bold(`${step}. ${title}`)} ${dim(`[${seconds} s]`)}`)
  }
}

/** Where everything of one quickstart lies. */
interface Place {
  readonly dir: string
  readonly store: string
  readonly identity: string
  readonly config: string
  readonly sockets: string
  readonly log: string
}

/** Runs the quickstart. @returns whether every claim held */
export async function quickstart(): Promise<boolean> {
  const dir = await mkdtemp(join(tmpdir(), 'keyferry-quickstart-'))
  const place: Place = {
    dir,
    store: join(dir, 'store'),
    identity: join(dir, 'identity', 'store.agekey'),
    config: join(dir, 'config.yaml'),
    sockets: join(dir, 'sockets'),
    log: join(dir, 'keyferry.log'),
  }
  const closers: (() => Promise<void>)[] = []
  const cleanUp = async (): Promise<void> => {
    for (const close of closers.splice(0)) await close()
    await rm(dir, { recursive: true, force: true })
  }
  const interrupted = (): void => void cleanUp().finally(() => process.exit(INTERRUPTED))
  for (const signal of SIGNALS) process.once(signal, interrupted)
  try {
    await tour(place, (close) => closers.unshift(close))
    return true
  } catch (error) {
    say(`\nkeyferry: ${error instanceof Error ? error.message : String(error)}`)
    return false
  } finally {
    for (const signal of SIGNALS) process.off(signal, interrupted)
    await cleanUp()
  }
}

async function tour(place: Place, atEnd: (close: () => Promise<void>) => void): Promise<void> {
  const step = stepper()
  const values = NAMES.map(() => randomBytes(24).toString('base64url'))
  say(bold("Keyferry quickstart: a pod's volume is filled from encrypted documents"))
  say(
    `Everything happens in ${place.dir} and is removed at the end. No cluster, no cloud, no Kubernetes Secret.`,
  )

  step('An embedded store: a directory of SOPS documents, and the age key that opens them')
  await command([
    'secret',
    'init',
    '--root',
    place.store,
    '--identity-file',
    place.identity,
    '--without-recovery',
  ])

  step('Three generated values go in through standard input, bound to the service account shop/web')
  const put = [
    'secret',
    'put',
    'shop/web',
    '--root',
    place.store,
    '--bind',
    'shop/web',
    '--from-env-file',
    '-',
  ]
  await command(put, envLines(values))
  say(excerpt(await readFile(join(place.store, 'shop', 'web.yaml'), 'utf8')))

  step('The provider, as the DaemonSet runs it')
  await mkdir(place.sockets, { mode: 0o700 })
  await writeFile(place.config, configOf(place))
  const server = await serve(place)
  atEnd(() => server.stop())
  say(`   ready on ${join(place.sockets, 'sops.sock')}`)

  step('A pod of shop/web mounts its SecretProviderClass through the driver')
  const node = await startNode({
    profile: '1.6',
    providerDirs: [place.sockets],
    root: join(place.dir, 'kubelet'),
    rotation: 1,
  })
  atEnd(() => node.close())
  say(
    node.mounts === 'tmpfs'
      ? '   volume: a real tmpfs, in a mount namespace of its own'
      : '   volume: EMULATED in a directory, because this machine does not let us mount a tmpfs',
  )
  const web = volume('web-0', 'web')
  const first = await node.publish(web)
  if (first.code !== 'OK') throw new Error(first.message)
  showVolume(node, web)
  holds(sameFiles(node, web, values), 'the pod finds exactly the three values')

  step('A pod of another service account asks for the same document')
  const other = await node.publish(volume('report-0', 'report'))
  say(`   ${other.event ?? ''}`)
  holds(
    other.code === 'PermissionDenied',
    'it is refused: the document says inside, encrypted, that it is for shop/web only',
  )

  step('Rotation: one value changes, the next republish swaps ..data in one rename')
  const before = link(node, web)
  values[1] = randomBytes(24).toString('base64url')
  await command([...put, '--merge', '--identity', place.identity], `${NAMES[1]}=${values[1]}\n`)
  await node.tick()
  say(`   ..data -> ${before}\n   ..data -> ${link(node, web)}`)
  showVolume(node, web)
  holds(
    before !== link(node, web) && sameFiles(node, web, values),
    'the pod finds the new value; the others are untouched',
  )

  step('Where are the values on disk?')
  const spared = node.mounts === 'tmpfs' ? [] : [join(place.dir, 'kubelet')]
  const hits = await search(place.dir, values, spared)
  say(
    `   searched ${hits.files} files in ${place.dir} (store, key, configuration, log) for each value, raw and in base64 and hex`,
  )
  if (spared.length > 0) say('   not searched: the emulated volume, which stands in for memory')
  holds(hits.found.length === 0, 'nowhere')
  await writeFile(join(place.dir, 'control'), values[0] ?? '')
  holds(
    (await search(place.dir, values, spared)).found.length === 1,
    'and the search does find one that is put there on purpose',
  )
  await rm(join(place.dir, 'control'))

  step('The empty-volume trap: the store is away when a new pod starts')
  await trap(place, node, values)

  step('What is left')
  await node.unpublish(web)
  await server.stop()
  holds(
    (await search(place.dir, values, [])).found.length === 0,
    'after unpublish and shutdown no value is left anywhere',
  )

  say(`\n${bold('Next')}
   keyferry mount --help    mount your own SecretProviderClass, without a cluster
   keyferry secret --help   write documents that the stock sops tool reads too
   docs/                    one page a dialect, operations, threat model; daemonset/ has the manifests`)
}

/** A first mount fails while the store is away, the pod waits, and starts with its files when it is back. */
async function trap(place: Place, node: TestNode, values: readonly string[]): Promise<void> {
  await rename(place.store, `${place.store}.away`)
  const kubelet = startKubelet(node)
  const late = kubelet.add(volume('web-1', 'web'))
  await kubelet.tick()
  say(`   ${late.attempts[0]?.result.event ?? ''}`)
  await kubelet.advance(10_000)
  const waited = late.attempts.length
  holds(
    late.started === undefined,
    `after ${waited} attempts in 10 s of kubelet's time the pod still waits, its container has not started`,
  )
  await rename(`${place.store}.away`, place.store)
  await kubelet.advance(30_000)
  holds(
    late.started?.mounted === true && late.visibleFiles().size === NAMES.length,
    'the store is back: the container starts with all its files',
  )
  holds(
    [...late.visibleFiles().values()].every(({ contents }) => values.includes(contents.toString())),
    'and with the right ones',
  )
  say(
    dim(
      '   An answer that kubelet does not take as final (UNAVAILABLE, say) would have started it with an empty volume.',
    ),
  )
  await kubelet.remove(late)
}

function volume(pod: string, serviceAccount: string): VolumeRequest {
  return {
    pod: { name: pod, namespace: 'shop', serviceAccount },
    spc: { ...SPC, parameters: { sopsFile: 'shop/web.yaml', objects: OBJECTS } },
  }
}

/** `freshFor: 0`, because here seconds pass between two republishes and not a minute. */
function configOf(place: Place): string {
  return `cache: { freshFor: 0 }
backends:
  sops:
    roots: [{ path: ${place.store} }]
    identities: [{ path: ${place.identity}, shared: true }]
`
}

function envLines(values: readonly string[]): string {
  return NAMES.map((name, index) => `${name}=${values[index]}\n`).join('')
}

/** Runs a command of ours and shows it as it would be typed. */
async function command(args: readonly string[], stdin?: string): Promise<void> {
  say(dim(`   $ ${stdin === undefined ? '' : '… | '}keyferry ${args.join(' ')}`))
  const child = cli(args)
  const output: Buffer[] = []
  child.stdout?.on('data', (chunk: Buffer) => output.push(chunk))
  child.stderr?.on('data', (chunk: Buffer) => output.push(chunk))
  child.stdin?.end(stdin ?? '')
  const [code] = await once(child, 'close')
  const text = Buffer.concat(output).toString().trimEnd()
  say(text.replace(/^/gm, '   '))
  if (code !== 0) throw new Error(`keyferry ${args.slice(0, 2).join(' ')} ended with ${String(code)}`)
}

function cli(args: readonly string[]): ChildProcess {
  return spawn(process.execPath, [process.argv[1] ?? '', ...args], { stdio: ['pipe', 'pipe', 'pipe'] })
}

/** Starts `keyferry serve` and waits for its ready line. All it says goes into a file, so that it can be searched. */
async function serve(place: Place): Promise<{ stop(): Promise<void> }> {
  const args = ['serve', '--config', place.config, '--socket-dir', place.sockets, '--dialects', 'sops']
  say(dim(`   $ keyferry ${args.join(' ')}`))
  const child = cli(args)
  const ended = once(child, 'exit')
  const ready = Promise.withResolvers<void>()
  let last = ''
  for (const stream of [child.stdout, child.stderr]) {
    if (!stream) continue
    createInterface({ input: stream }).on('line', (line) => {
      last = line
      appendFileSync(place.log, `${line}\n`, { mode: 0o600 })
      if (line.includes('"msg":"ready"')) ready.resolve()
    })
  }
  child.once('exit', (code) => ready.reject(new Error(`keyferry serve ended with ${String(code)}: ${last}`)))
  await ready.promise
  return {
    async stop() {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGTERM')
        await ended
      }
    },
  }
}

/** The lines of a document that show what it is: keys in clear, values encrypted. */
function excerpt(document: string): string {
  const shown = document.split('\n').filter((line) => /ENC\[/.test(line) && !/mac/.test(line))
  return shown.map((line) => `   ${line.length > 96 ? `${line.slice(0, 95)}…` : line}`).join('\n')
}

function showVolume(node: TestNode, request: VolumeRequest): void {
  const target = node.target(request)
  const status = [...node.objects.statuses.values()].find((one) => one.status.targetPath === target)
  const versions = new Map(status?.status.objects.map(({ id, version }) => [id, version]))
  for (const entry of node.tree(target)) {
    if (entry.path === '.' || entry.kind === 'directory') continue
    const name = entry.path.split('/').at(-1) ?? ''
    const what =
      entry.kind === 'link' ? `-> ${entry.link}` : `${entry.size} bytes, version ${versions.get(name) ?? '?'}`
    say(`   ${entry.kind === 'link' ? 'link' : entry.mode}  ${entry.path}  ${what}`)
  }
}

function link(node: TestNode, request: VolumeRequest): string {
  return node.tree(node.target(request)).find(({ path }) => path === '..data')?.link ?? ''
}

function sameFiles(node: TestNode, request: VolumeRequest, values: readonly string[]): boolean {
  const files = node.files(node.target(request))
  return (
    files.size === NAMES.length &&
    NAMES.every((name, index) => files.get(name)?.contents.toString() === values[index])
  )
}

/** Files below `dir` that hold a value in any of three encodings. Sockets and links are no files. */
async function search(
  dir: string,
  values: readonly string[],
  spared: readonly string[],
): Promise<{ files: number; found: string[] }> {
  const needles = values.flatMap((value) => [
    value,
    Buffer.from(value).toString('base64'),
    Buffer.from(value).toString('hex'),
  ])
  const found: string[] = []
  let files = 0
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    if (!entry.isFile() || spared.some((one) => path.startsWith(one))) continue
    files += 1
    const content = await readFile(path)
    if (needles.some((needle) => content.includes(needle))) found.push(path)
  }
  return { files, found }
}
