// Small comforts. Every page works without this file.
const find = (selector) => document.querySelector(selector)

// After an error, begin at the summary; else at the page's only task, unless that would open a touch keyboard.
const summary = find('.summary')
if (summary) summary.focus()
else if (matchMedia('(hover: hover) and (pointer: fine)').matches) find('[data-focus]')?.focus()

const toggle = find('#toggle')
if (toggle) {
  const password = document.getElementById(toggle.getAttribute('aria-controls'))
  const show = (shown) => {
    password.type = shown ? 'text' : 'password'
    toggle.setAttribute('aria-pressed', shown)
  }
  toggle.hidden = false
  toggle.addEventListener('click', () => show(password.type === 'password'))
  // Masked again, so that browsers do not remember it as ordinary text.
  password.form.addEventListener('submit', () => show(false))
}

for (const button of document.querySelectorAll('[data-copy]')) {
  const source = document.getElementById(button.dataset.copy)
  button.hidden = false
  button.addEventListener('click', async () => {
    const status = find('[role=status]')
    status.textContent = ''
    try {
      await navigator.clipboard.writeText(source.textContent.replace(/\s/g, ''))
      status.textContent = button.dataset.copied
    } catch {
      getSelection().selectAllChildren(source)
      status.textContent = button.dataset.byHand
    }
  })
}

const print = find('[data-print]')
if (print) {
  print.hidden = false
  print.addEventListener('click', () => window.print())
}
