/**
 * Owns `npm run example`: the class of examples/keyferry, mounted by `keyferry mount` out of a store of SOPS
 * documents and the tests' stand-in for AWS, then a revocation. Needs no cloud; everything lies in one
 * directory that goes away afterwards.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parse, stringify } from 'yaml'
import { FakeAws } from '../test/providers/aws/fake-aws.ts'
import { FakeCluster } from '../test/providers/aws/fake-identity.ts'
import { ROLE, trustWeb } from '../test/providers/aws/web-role.ts'

const ROOT = join(import.meta.dirname, '..')
const EXAMPLE = join('examples', 'keyferry')
const AUDIENCE = 'sts.amazonaws.com'
const REGION = 'eu-west-1'

const directory = await mkdtemp(join(tmpdir(), 'keyferry-example-'))
const aws = await new FakeAws().start()
try {
  process.exitCode = await example()
} finally {
  await aws.stop()
  await rm(directory, { recursive: true })
}

async function example(): Promise<number> {
  const [store, identity] = [join(directory, 'store'), join(directory, 'node.agekey')]
  const [config, token] = [join(directory, 'node.yaml'), join(directory, 'token.jwt')]
  say('1. A store of SOPS documents on the node, and secrets in AWS (a stand-in on this machine)')
  await keyferry(['secret', 'init', '--root', store, '--identity-file', identity, '--without-recovery'])
  const put = ['secret', 'put', 'shop/db', '--root', store, '--bind', 'shop/web', '--from-env-file', '-']
  await keyferry(put, 'password=correct horse\n')
  const region = aws.region(REGION)
  region.putSecret('shop/db', '{"user":"app"}')
  region.putSecret('shop/token', 'first')
  region.putSecret('shop/token', 'second')
  region.putSecret('shop/tls', '{"certificate":"-- certificate --","privateKey":"-- key --"}')

  say(`\n2. ${EXAMPLE}/secretproviderclass.yaml, mounted with the stores of ${EXAMPLE}/node.yaml`)
  await writeFile(config, await configuration(store, identity))
  const cluster = new FakeCluster()
  trustWeb(aws, cluster)
  const pod = { namespace: 'shop', serviceAccount: 'web', audience: AUDIENCE }
  await writeFile(token, cluster.token(pod).token, { mode: 0o600 })
  const spc = join(EXAMPLE, 'secretproviderclass.yaml')
  const who = ['--namespace', 'shop', '--service-account', 'web', '--token', `${AUDIENCE}=${token}`]
  const mount = ['mount', '-f', spc, '--config', config, ...who, '--target', join(directory, 'volume')]
  await keyferry(mount)

  say('\n3. The certificate is deleted in AWS: the next republish takes its files away (onRevoked: remove)')
  region.secrets.delete('shop/tls')
  await keyferry([...mount, '--volume-attribute', 'onRevoked=remove'])
  return 0
}

/** The example's own configuration, with its paths and its AWS on this machine. */
async function configuration(store: string, identity: string): Promise<string> {
  const { stores } = parse(await readFile(join(ROOT, EXAMPLE, 'node.yaml'), 'utf8')) as { stores: unknown }
  const { endpoint } = aws
  return stringify({
    kubernetes: 'off',
    backends: {
      sops: { roots: [{ path: store }], identities: [{ path: identity, shared: true }] },
      'aws-secrets-manager': { region: REGION, roleArn: ROLE, endpoint, stsEndpoint: endpoint },
    },
    stores,
  })
}

/** Runs a command of ours and shows it as it would be typed. @throws Error when it fails */
async function keyferry(args: readonly string[], stdin = ''): Promise<void> {
  say(`   $ keyferry ${args.join(' ')}`)
  const child = spawn(process.execPath, [join('bin', 'keyferry.mjs'), ...args], {
    cwd: ROOT,
    stdio: ['pipe', 'inherit', 'inherit'],
  })
  child.stdin.end(stdin)
  const [code] = (await once(child, 'close')) as [number | null]
  if (code !== 0) throw new Error(`keyferry ${args.slice(0, 2).join(' ')} ended with ${String(code)}`)
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}
