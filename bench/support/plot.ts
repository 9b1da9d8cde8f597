/** Owns pictures of figures over time: an SVG for a page, a line of blocks for the console. */

export interface Series {
  readonly name: string
  /** One value for each step, from the first. */
  readonly values: readonly number[]
}

export interface Plot {
  readonly title: string
  /** What the values are, e.g. `calls a minute`. */
  readonly unit: string
  readonly series: readonly Series[]
  /** Steps between two numbers on the time axis, and what they are called. */
  readonly every: number
  readonly axis: string
  /** Steps that are shaded, e.g. the outage. */
  readonly shaded: { readonly from: number; readonly to: number; readonly name: string }
}

const BLOCKS = '▁▂▃▄▅▆▇█'

/** Values as blocks, `steps` of them to one: its highest. Nothing is a space. */
export function sparkline(values: readonly number[], steps: number): string {
  const most = Math.max(...values, 1)
  const columns = Array.from({ length: Math.ceil(values.length / steps) }, (_, index) =>
    Math.max(...values.slice(index * steps, (index + 1) * steps)),
  )
  return columns
    .map((value) => (value === 0 ? ' ' : BLOCKS[Math.min(7, Math.floor((value / most) * 8))]))
    .join('')
}

const SIZE = { width: 900, height: 320, left: 60, right: 20, top: 40, bottom: 50 }
const COLOURS = ['#1f6feb', '#d1701d', '#2da44e']

/** A whole SVG document. */
export function svg({ title, unit, series, every, axis, shaded }: Plot): string {
  const { width, height, left, right, top, bottom } = SIZE
  const steps = Math.max(...series.map(({ values }) => values.length))
  const most = niceAbove(Math.max(...series.flatMap(({ values }) => values), 1))
  const x = (step: number): string => (left + (step / steps) * (width - left - right)).toFixed(1)
  const y = (value: number): string => (height - bottom - (value / most) * (height - top - bottom)).toFixed(1)
  const text = (at: { x: string | number; y: string | number }, content: string, more = ''): string =>
    `<text x="${at.x}" y="${at.y}" ${more}>${content}</text>`
  const ticks = Array.from({ length: Math.floor(steps / every) + 1 }, (_, index) => index * every)
  const levels = [0, 0.25, 0.5, 0.75, 1].map((share) => share * most)
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12" fill="#444">`,
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    `<rect x="${x(shaded.from)}" y="${top}" width="${Number(x(shaded.to)) - Number(x(shaded.from))}" height="${height - top - bottom}" fill="#f6d5d5"/>`,
    text({ x: x((shaded.from + shaded.to) / 2), y: top + 16 }, shaded.name, 'text-anchor="middle"'),
    text({ x: left, y: 22 }, title, 'font-size="15" fill="#111"'),
    ...levels.flatMap((level) => [
      `<line x1="${left}" x2="${width - right}" y1="${y(level)}" y2="${y(level)}" stroke="#ddd"/>`,
      text({ x: left - 6, y: Number(y(level)) + 4 }, String(Math.round(level)), 'text-anchor="end"'),
    ]),
    ...ticks.map((step) =>
      text({ x: x(step), y: height - bottom + 18 }, String(step), 'text-anchor="middle"'),
    ),
    text({ x: width / 2, y: height - 10 }, `${axis}; ${unit}`, 'text-anchor="middle"'),
    ...series.flatMap(({ name, values }, index) => [
      `<polyline fill="none" stroke="${COLOURS[index % COLOURS.length]}" stroke-width="1.5" points="${values.map((value, step) => `${x(step + 0.5)},${y(value)}`).join(' ')}"/>`,
      text(
        { x: width - right, y: 18 + 14 * index },
        name,
        `text-anchor="end" fill="${COLOURS[index % COLOURS.length]}"`,
      ),
    ]),
    '</svg>',
    '',
  ].join('\n')
}

/** The next of 1, 2, 4, 5, 8 times a power of ten. */
function niceAbove(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value))
  return power * ([1, 2, 4, 5, 8, 10].find((step) => step * power >= value) ?? 10)
}
