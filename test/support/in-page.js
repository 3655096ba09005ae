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

  /** Targets below 24 px, buttons and fields below 44 px, and fields with letters below 16 px. */
  tooSmall() {
    const targets = [...document.querySelectorAll('button, input:not([type=hidden]), summary, .button, .ways a')]
    return targets
      .filter((target) => {
        const { height, width } = target.getBoundingClientRect()
        const isMain = target.matches('button:not(.link), .button, input:not([type=checkbox])')
        const isField = target.matches('input:not([type=checkbox])')
        const letters = Number.parseFloat(getComputedStyle(target).fontSize)
        return height < (isMain ? 44 : 24) || width < 24 || (isField && letters < 16)
      })
      .map((target) => target.outerHTML)
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
