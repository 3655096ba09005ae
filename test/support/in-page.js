// Runs in the page under test, before its own script.

addEventListener('securitypolicyviolation', (event) =>
  console.error(`${event.violatedDirective} forbids ${event.blockedURI}`),
)

globalThis.inPage = {
  /** What sticks out of the viewport sideways once `css` is added. */
  sticksOut(css) {
    const sheet = new CSSStyleSheet()
    sheet.replaceSync(css)
    document.adoptedStyleSheets = [sheet]
    const { scrollWidth, clientWidth } = document.documentElement
    if (scrollWidth <= clientWidth) return []
    const out = [...document.querySelectorAll('body *')].filter((element) => {
      const { left, right } = element.getBoundingClientRect()
      return right > clientWidth + 0.5 || left < -0.5
    })
    return [`${scrollWidth} px`, ...out.map((element) => element.outerHTML.slice(0, 80))]
  },

  /** Shows what is folded away. */
  openDetails() {
    for (const details of document.querySelectorAll('details')) details.open = true
  },

  /** What the error of this page lacks. */
  unannounced() {
    const summary = document.querySelector('main > .summary:first-child')
    if (!summary) return ['no summary first in main']
    const title = document.getElementById(summary.getAttribute('aria-labelledby'))
    const link = summary.querySelector('a')
    const text = summary.querySelector('li')?.textContent
    const field = link && document.querySelector(link.getAttribute('href'))
    const descriptions = (field?.getAttribute('aria-describedby') ?? '').split(' ')
    const beside = descriptions.map((id) => document.getElementById(id)?.textContent ?? '')
    const holds = {
      'an alert': summary.getAttribute('role') === 'alert',
      'the focus': document.activeElement === summary,
      'a title': title?.textContent.length > 0,
      'a sentence': text?.length > 0,
      'Error: in the page title': document.title.startsWith('Error: '),
      'a link to a field that is invalid': !link || field?.getAttribute('aria-invalid') === 'true',
      'the sentence at its field': !link || beside.some((one) => one.includes(text)),
      'no other invalid field': document.querySelectorAll('[aria-invalid]').length === (link ? 1 : 0),
    }
    return Object.keys(holds).filter((what) => !holds[what])
  },

  /** Whether there is one h1, and something to go on with. */
  leadsOn() {
    const ways = [...document.querySelectorAll('main :is(a[href], button)')].filter((way) => way.checkVisibility())
    return document.querySelectorAll('h1').length === 1 && ways.length > 0
  },

  /** What is behind the text of the main buttons. */
  buttonColours() {
    const buttons = [...document.querySelectorAll('main :is(button[type=submit]:not(.quiet), .button)')]
    return buttons.map((button) => getComputedStyle(button).backgroundColor)
  },

  /** Targets below 24 px, buttons and fields below 44 px, and fields with letters below 16 px. */
  tooSmall() {
    const targets = [
      ...document.querySelectorAll('button, input:not([type=hidden]), select, summary, .button, .ways a'),
    ]
    return targets
      .filter((target) => {
        const { height, width } = target.getBoundingClientRect()
        const isMain = target.matches('button:not(.link), .button, select, input:not([type=checkbox], [type=radio])')
        const isField = target.matches('select, input:not([type=checkbox], [type=radio])')
        const letters = Number.parseFloat(getComputedStyle(target).fontSize)
        return height < (isMain ? 44 : 24) || width < 24 || (isField && letters < 16)
      })
      .map((target) => target.outerHTML)
  },

  /** A PNG in Base64 with its 64 most frequent colours: red, green, blue of each, and which of them each pixel is. */
  async fewColours(png) {
    const image = new Image()
    image.src = `data:image/png;base64,${png}`
    await image.decode()
    const { width, height } = image
    const canvas = new OffscreenCanvas(width, height).getContext('2d')
    canvas.drawImage(image, 0, 0)
    const pixels = new Uint32Array(canvas.getImageData(0, 0, width, height).data.buffer)
    const counts = new Map()
    for (const pixel of pixels) counts.set(pixel, (counts.get(pixel) ?? 0) + 1)
    const parts = (pixel) => [pixel & 255, (pixel >> 8) & 255, (pixel >> 16) & 255]
    const frequent = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a)).slice(0, 64)
    const palette = frequent.map(parts)
    const nearest = new Map(frequent.map((pixel, index) => [pixel, index]))
    for (const pixel of counts.keys()) {
      if (nearest.has(pixel)) continue
      const [red, green, blue] = parts(pixel)
      const distances = palette.map(([r, g, b]) => (r - red) ** 2 + (g - green) ** 2 + (b - blue) ** 2)
      nearest.set(pixel, distances.indexOf(Math.min(...distances)))
    }
    const indices = Array.from(pixels, (pixel) => String.fromCharCode(nearest.get(pixel)))
    return { width, height, palette: palette.flat(), indices: btoa(indices.join('')) }
  },

  /** The brightness of the middle of each module of a QR code, a PNG in Base64; -1 for what is not grey. */
  async brightnessOf(png, size) {
    const image = new Image()
    image.src = `data:image/png;base64,${png}`
    await image.decode()
    const canvas = document.createElement('canvas')
    canvas.width = image.width
    canvas.height = image.height
    const context = canvas.getContext('2d', { willReadFrequently: true })
    context.drawImage(image, 0, 0)
    const middle = (index) => Math.floor(((index + 0.5) * image.width) / size)
    return Array.from({ length: size * size }, (_, i) => {
      const pixel = context.getImageData(middle(i % size), middle(Math.floor(i / size)), 1, 1).data
      const [red, green, blue] = pixel
      return red === green && green === blue ? red : -1
    })
  },
}
