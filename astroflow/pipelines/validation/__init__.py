"""The report of `astroflow validate`: what it is made of (`material`), its sections, and the page that they make (`page`, on `html`)."""
