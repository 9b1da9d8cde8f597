/** Owns: how long a single hostile input holds the event loop. */
import { Client, credentials, type ServiceError } from '@grpc/grpc-js'
import { BUILT_IN } from '../src/providers/registry.ts'
import { MOUNT_METHOD } from '../src/rpc/contract.ts'
import { median, repeated, row, type Row, type Scenario } from './scenario.ts'
import { hostileInputs, messageOf, type HostileInput } from './support/hostile-inputs.ts'
import { startBenchServer, type BenchServer } from './support/server.ts'
import { createIdentity, sopsConfig } from './support/sops.ts'

const DEADLINE_MS = 60_000
const TARGET = { atMost: 50 } as const
/** Over this a single look is not believed: the input is sent again, and the middle counts. */
const LOOK_AGAIN_MS = 25

/** An alias of another dialect is the same parser. */
const ALIASES = new Set(['openbao'])

export const hostile: Scenario = {
  name: 'hostile',
  title: 'Event loop held by a single hostile input',
  run: async ({ quick, directory, progress }) => {
    const identity = await createIdentity(directory)
    const vendors = BUILT_IN.flatMap((entry) => entry.dialects).filter((name) => !ALIASES.has(name))
    const dialects = [...vendors, 'keyferry']
    const start = (): Promise<BenchServer> =>
      startBenchServer({ directory, config: sopsConfig(identity), dialects, probe: true })
    let server = await start()
    /** A process that an input has ended is replaced: the others are measured all the same. */
    const look = async (input: HostileInput): Promise<number> => {
      try {
        return await holdOf(server, input)
      } catch (error) {
        if (!(error instanceof NoAnswer)) throw error
        await server.stop()
        server = await start()
        return ENDED
      }
    }
    try {
      const all = await hostileInputs(dialects, identity.recipient)
      const inputs = quick ? all.filter((_, index) => index % 25 === 0) : all
      // The first of everything loads code and warms up.
      for (const provider of dialects) {
        const input = inputs.find((one) => one.provider === provider)
        if (input) await look(input)
      }
      const held: Held[] = []
      for (const [index, input] of inputs.entries()) {
        if (index % 20 === 0) progress(`hostile: ${index} of ${inputs.length}`)
        const first = await look(input)
        const again = first > LOOK_AGAIN_MS && first < ENDED ? await repeated(2, () => look(input)) : []
        held.push({ input, ms: again.length === 0 ? first : median([first, ...again]) })
      }
      return rows(held)
    } finally {
      await server.stop()
    }
  },
}

/** Stands for the hold of an input that ended the process, or was not answered in a minute. */
const ENDED = Number.POSITIVE_INFINITY

class NoAnswer extends Error {
  override readonly name = 'NoAnswer'
}

interface Held {
  readonly input: HostileInput
  /** Processor time between two turns of the loop, at most. */
  readonly ms: number
}

/** Sends the input, waits for its one answer, and asks how long the loop was held meanwhile. */
async function holdOf(server: BenchServer, input: HostileInput): Promise<number> {
  const client = new Client(`unix:${server.socket(input.provider)}`, credentials.createInsecure(), {
    'grpc.default_authority': 'localhost',
    'grpc.max_send_message_length': -1,
  })
  try {
    await server.loopHold()
    await answered(client, input)
    return (await server.loopHold()).processorMs
  } finally {
    client.close()
  }
}

/** A status of any kind is an answer; none in time, or a broken connection, is not. @throws NoAnswer */
async function answered(client: Client, input: HostileInput): Promise<void> {
  const message = messageOf(input.send)
  const error = await new Promise<ServiceError | null>((resolve) => {
    client.makeUnaryRequest(
      MOUNT_METHOD.path,
      (bytes: Buffer) => bytes,
      (bytes: Buffer) => bytes,
      Buffer.from(message.buffer, message.byteOffset, message.byteLength),
      { deadline: Date.now() + DEADLINE_MS },
      (failure) => resolve(failure),
    )
  })
  if (error && NO_ANSWER.has(error.code)) throw new NoAnswer(error.message)
}

/** DEADLINE_EXCEEDED and UNAVAILABLE: what a client says when nobody answered. */
const NO_ANSWER: ReadonlySet<number> = new Set([4, 14])
const SHOWN = 8

function rows(held: readonly Held[]): readonly Row[] {
  const ended = held.filter(({ ms }) => ms === ENDED)
  const groups = Map.groupBy(
    held.filter(({ ms }) => ms < ENDED),
    ({ input }) => input.group,
  )
  return [
    row({
      what: `of ${held.length} inputs, those that ended the process or had no answer`,
      value: ended.length,
      unit: '',
      target: { atMost: 0 },
      ...(ended.length > 0 && { note: ended.map(({ input }) => `${input.group}: ${input.name}`).join('; ') }),
    }),
    ...Array.from(groups, ([group, members]) => {
      const worst = members.toSorted((a, b) => b.ms - a.ms)
      const over = members.filter(({ ms }) => ms > TARGET.atMost).length
      const list = worst.slice(0, SHOWN).map(({ input, ms }) => `${input.name} ${ms.toFixed(0)} ms`)
      return row({
        what: `${group}: longest hold, ${members.length} inputs`,
        value: worst[0]?.ms ?? 0,
        unit: 'ms',
        target: TARGET,
        note: `${over} over the target; worst: ${list.join('; ')}`,
      })
    }),
  ]
}
